//! The shape of tree that pays off most (Chen et al. 2024, Sequoia, section 3.1).
//!
//! How many tokens a tree is expected to give depends on how often the child of each rank is accepted; what it
//! costs depends on the machine. Trees that are right for one machine lose to chains on another, so costs
//! are measured numbers and the answer may be not to speculate at all.

use super::draft_tree::NONE;

/// The most nodes that a shape is planned for: the work grows with their square.
pub const MAX_PLANNED_NODES: usize = 512;

/// The most children of one node, and the most depth, that a shape is planned for.
pub const MAX_PLANNED_DEPTH: usize = 64;

/// A shape of draft trees, and what it is expected to give.
///
/// ```
/// use sunfleck::tree::{DraftTree, OptimalShape};
///
/// // The first guess is right in 60 % of cases, the second in another 20 %. Drafting one level takes 1 ms,
/// // verifying 10 ms and 1 ms more for each node.
/// let draft: Vec<f64> = (0..5).map(|depth| depth as f64 * 1e-3).collect();
/// let verify: Vec<f64> = (1..=8).map(|nodes| 10e-3 + nodes as f64 * 1e-3).collect();
/// let shape = OptimalShape::new(&[0.6, 0.2], &draft, &verify)?;
/// assert!(shape.speculates() && shape.expected_tokens > 1.6);
///
/// // Where verifying a node costs as much as decoding a token, drafting is no use.
/// let linear: Vec<f64> = (1..=8).map(|nodes| nodes as f64 * 10e-3).collect();
/// assert!(!OptimalShape::new(&[0.6, 0.2], &draft, &linear)?.speculates());
///
/// // The shape filled with candidates: [depth][rank].
/// let candidates = [[10, 11], [20, 21], [30, 31], [40, 41]];
/// let tree = DraftTree::from_paths(7, &shape.paths(), &candidates)?;
/// assert_eq!(tree.len(), shape.parents.len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct OptimalShape {
    /// Parent of each node, [`NONE`] for the root: as [`DraftTree::from_parents`](super::DraftTree::from_parents)
    /// takes them. The root alone when speculation does not pay.
    pub parents: Vec<u32>,
    /// Tokens that a step is expected to give, the bonus token included: at least 1.
    pub expected_tokens: f64,
    /// Expected tokens over the cost of drafting and verifying: per second, if costs are in seconds.
    pub rate: f64,
}

/// Why no shape was planned.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// A list has no entry, or more than are planned for.
    #[error("`{name}` has {given} entries; it needs from 1 to {max}")]
    Length {
        /// The argument.
        name: &'static str,
        /// Entries given.
        given: usize,
        /// Entries allowed.
        max: usize,
    },
    /// A number is out of its range.
    #[error("`{name}[{index}]` is {given}; it must be {needed}")]
    Number {
        /// The argument.
        name: &'static str,
        /// The entry.
        index: usize,
        /// Its range.
        needed: &'static str,
        /// What was given.
        given: f64,
    },
}

impl OptimalShape {
    /// The shape with the most expected tokens for its cost.
    ///
    /// - `acceptance[rank]`: how often the child of that rank is the one accepted, of all visits to a node
    ///   that has it ([`AcceptanceRates`](super::AcceptanceRates) counts them). Together at most 1.
    /// - `draft_cost[depth]`: what drafting that many levels costs; `[0]` is drafting nothing. Its length
    ///   bounds the depth.
    /// - `verify_cost[nodes - 1]`: what a step of the target model with that many nodes costs, the root
    ///   included, and its verification. Its length bounds the nodes.
    ///
    /// # Errors
    /// [`ShapeError`] for an empty or too long list and for a number out of its range.
    pub fn new(
        acceptance: &[f64],
        draft_cost: &[f64],
        verify_cost: &[f64],
    ) -> Result<Self, ShapeError> {
        Self::within(&[acceptance], draft_cost, verify_cost, f64::INFINITY)
    }

    /// As [`new`](Self::new), with rates of their own for each depth, and of the shapes that cost at most
    /// `most_cost` only; the root alone may always be taken.
    ///
    /// `acceptance[depth][rank]` is the rate of children of nodes at that depth; the last list holds for all
    /// deeper ones.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn within(
        acceptance: &[impl AsRef<[f64]>],
        draft_cost: &[f64],
        verify_cost: &[f64],
        most_cost: f64,
    ) -> Result<Self, ShapeError> {
        let lists: Vec<&[f64]> = acceptance.iter().map(AsRef::as_ref).collect();
        if lists.is_empty() {
            return Err(ShapeError::Length {
                name: "acceptance",
                given: 0,
                max: MAX_PLANNED_DEPTH,
            });
        }
        for list in &lists {
            check_list("acceptance", list, MAX_PLANNED_DEPTH, |rate| {
                (0.0..=1.0).contains(&rate)
            })?;
        }
        check_list("draft_cost", draft_cost, MAX_PLANNED_DEPTH + 1, |cost| {
            cost.is_finite() && cost >= 0.0
        })?;
        check_list("verify_cost", verify_cost, MAX_PLANNED_NODES, |cost| {
            cost.is_finite() && cost > 0.0
        })?;
        let mut best = ((1, 0), vec![NONE]);
        let mut shape = (1.0, 1.0 / (draft_cost[0] + verify_cost[0]));
        // Where rates are the same at every depth, one table has the trees of every depth.
        let deepest = draft_cost.len() - 1;
        let shared = (lists.len() == 1).then(|| Table::new(&lists, verify_cost.len(), deepest));
        for (depth, cost) in draft_cost.iter().enumerate().skip(1) {
            let own = match &shared {
                Some(_) => None,
                None => Some(Table::new(&lists, verify_cost.len(), depth)),
            };
            let Some(table) = shared.as_ref().or(own.as_ref()) else {
                continue;
            };
            for nodes in 2..=verify_cost.len() {
                let cost = cost + verify_cost[nodes - 1];
                let expected = table.best(nodes, depth).0;
                let rate = expected / cost;
                // Of equal ones the fewest nodes, then the least depth.
                let wins = rate > shape.1 || (rate == shape.1 && (nodes, depth) < best.0);
                if cost <= most_cost && wins {
                    best = ((nodes, depth), table.parents(nodes, depth));
                    shape = (expected, rate);
                }
            }
        }
        Ok(Self {
            parents: best.1,
            expected_tokens: shape.0,
            rate: shape.1,
        })
    }

    /// Whether drafting pays at all.
    pub fn speculates(&self) -> bool {
        self.parents.len() > 1
    }

    /// The shape as ranks from the root down, one list a drafted node: as
    /// [`DraftTree::from_paths`](super::DraftTree::from_paths) takes them.
    pub fn paths(&self) -> Vec<Vec<usize>> {
        let mut paths: Vec<Vec<usize>> = vec![Vec::new()];
        let mut children = vec![0; self.parents.len()];
        for &parent in &self.parents[1..] {
            let parent = parent as usize;
            let mut path = paths[parent].clone();
            path.push(children[parent]);
            children[parent] += 1;
            paths.push(path);
        }
        paths.split_off(1)
    }
}

fn check_list(
    name: &'static str,
    list: &[f64],
    max: usize,
    is_allowed: impl Fn(f64) -> bool,
) -> Result<(), ShapeError> {
    if list.is_empty() || list.len() > max {
        let given = list.len();
        return Err(ShapeError::Length { name, given, max });
    }
    let needed = match name {
        "acceptance" => "a probability from 0 to 1",
        "draft_cost" => "finite and at least 0",
        _ => "finite and above 0",
    };
    match list.iter().position(|&number| !is_allowed(number)) {
        None => Ok(()),
        Some(index) => Err(ShapeError::Number {
            name,
            index,
            needed,
            given: list[index],
        }),
    }
}

/// `T[m][l][b]`: the most expected tokens of a tree of exactly `m` nodes, at most `l` deep, whose root has
/// exactly `b` children. The last child's subtree takes `m - y` nodes and is reached with its rank's rate:
/// `T[m][l][b] = max_y T[y][l][b - 1] + P[b] max_b' T[m - y][l - 1][b']`.
struct Table {
    depths: usize,
    ranks: usize,
    cells: Vec<Cell>, // [m - 1][l][b]
}

/// Expected tokens (-inf: no such tree), and the nodes of the last child's subtree.
#[derive(Clone, Copy)]
struct Cell {
    expected: f64,
    last: usize,
}

impl Table {
    /// Trees of up to `nodes` nodes; `acceptance[level][rank]`, the level counted from a root with `depth` levels
    /// below it.
    fn new(acceptance: &[&[f64]], nodes: usize, depth: usize) -> Self {
        let ranks = acceptance.iter().map(|list| list.len()).max().unwrap_or(0);
        let none = Cell {
            expected: f64::NEG_INFINITY,
            last: 0,
        };
        let mut table = Self {
            depths: depth + 1,
            ranks: ranks + 1,
            cells: vec![none; nodes * (depth + 1) * (ranks + 1)],
        };
        for m in 1..=nodes {
            for l in 0..=depth {
                if m == 1 {
                    let at = table.index(1, l, 0);
                    table.cells[at].expected = 1.0;
                    continue;
                }
                let level = (depth - l).min(acceptance.len() - 1);
                let rates = acceptance[level];
                // A root with children needs a level for them, and a node for each.
                for b in 1..=rates.len().min(if l == 0 { 0 } else { m - 1 }) {
                    let mut cell = none;
                    for last in 1..m {
                        let before = table.cells[table.index(m - last, l, b - 1)].expected;
                        let expected = before + rates[b - 1] * table.best(last, l - 1).0;
                        if expected > cell.expected {
                            cell = Cell { expected, last };
                        }
                    }
                    let at = table.index(m, l, b);
                    table.cells[at] = cell;
                }
            }
        }
        table
    }

    fn index(&self, m: usize, l: usize, b: usize) -> usize {
        ((m - 1) * self.depths + l) * self.ranks + b
    }

    /// The most expected tokens of `m` nodes at most `l` deep, and the root's children there.
    fn best(&self, m: usize, l: usize) -> (f64, usize) {
        let start = self.index(m, l, 0);
        let mut best = (f64::NEG_INFINITY, 0);
        for (b, cell) in self.cells[start..start + self.ranks].iter().enumerate() {
            if cell.expected > best.0 {
                best = (cell.expected, b);
            }
        }
        best
    }

    /// The tree behind [`best`](Self::best), level by level.
    fn parents(&self, nodes: usize, depth: usize) -> Vec<u32> {
        let mut parents = vec![NONE];
        let mut sizes = vec![(nodes, depth)]; // of the subtree below each node made so far
        let mut node = 0;
        while let Some(&(mut m, l)) = sizes.get(node) {
            let mut children = Vec::new();
            for b in (1..=self.best(m, l).1).rev() {
                let last = self.cells[self.index(m, l, b)].last;
                children.push((last, l - 1));
                m -= last;
            }
            parents.extend(children.iter().map(|_| node as u32));
            sizes.extend(children.into_iter().rev());
            node += 1;
        }
        parents
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::verify::enumerate::shapes;
    use crate::tree::{DraftTree, DrawKind};

    /// Expected tokens of a shape: over all nodes the probability that its path is accepted.
    fn expected(parents: &[u32], acceptance: &[f64]) -> f64 {
        let tokens = (0..parents.len() as u32).collect();
        let tree = DraftTree::from_parents(tokens, parents.to_vec(), DrawKind::TopK).unwrap();
        let mut reach = vec![1.0; parents.len()];
        for node in 0..parents.len() {
            for (rank, child) in tree.children(node).enumerate() {
                reach[child] = reach[node] * acceptance.get(rank).copied().unwrap_or(0.0);
            }
        }
        reach.iter().sum()
    }

    #[test]
    fn no_shape_of_as_many_nodes_and_depth_is_better() {
        let acceptance = [0.5, 0.25, 0.1];
        for depth in 1..=4 {
            for nodes in 2..=7 {
                let table = Table::new(&[&acceptance], nodes, depth);
                let has_rates = |shape: &Vec<u32>| {
                    let children = |node| shape.iter().filter(|&&p| p == node).count();
                    (0..nodes as u32).all(|node| children(node) <= acceptance.len())
                };
                let all = shapes(nodes, depth).into_iter().filter(has_rates);
                let best = all
                    .map(|s| expected(&s, &acceptance))
                    .fold(f64::NEG_INFINITY, f64::max);
                let found = table.best(nodes, depth).0;
                if best == f64::NEG_INFINITY {
                    // So many nodes take more children than there are rates, or more depth.
                    assert_eq!(found, best);
                    continue;
                }
                assert!(
                    (found - best).abs() < 1e-12,
                    "{nodes} {depth}: {found} {best}"
                );
                let parents = table.parents(nodes, depth);
                assert_eq!(parents.len(), nodes);
                assert!((expected(&parents, &acceptance) - best).abs() < 1e-12);
            }
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
        #[test]
        fn no_shape_at_all_is_better_for_its_cost(
            mut rates in proptest::collection::vec(0.0f64..1.0, 1..4),
            levels in proptest::collection::vec(0.0f64..1.0, 1..5),
            nodes in proptest::collection::vec(0.0f64..1.0, 1..7),
            first in 0.1f64..4.0,
        ) {
            let sum: f64 = rates.iter().sum();
            rates.iter_mut().for_each(|rate| *rate /= sum.max(1.0));
            // Costs that rise: another level, another node.
            let rising = |steps: &[f64], start: f64| -> Vec<f64> {
                let sums = steps.iter().scan(start, |sum, step| {
                    let before = *sum;
                    *sum += step;
                    Some(before)
                });
                sums.collect()
            };
            let (draft, verify) = (rising(&levels, 0.0), rising(&nodes, first));
            let shape = OptimalShape::new(&rates, &draft, &verify).unwrap();
            let mut best = 1.0 / verify[0];
            for count in 2..=verify.len() {
                for depth in 1..draft.len() {
                    for parents in shapes(count, depth) {
                        let tokens = (0..count as u32).collect();
                        let tree = DraftTree::from_parents(tokens, parents.clone(), DrawKind::TopK);
                        let cost = draft[tree.unwrap().max_depth() as usize] + verify[count - 1];
                        best = f64::max(best, expected(&parents, &rates) / cost);
                    }
                }
            }
            proptest::prop_assert!((shape.rate - best).abs() < 1e-9 * best, "{} {best}", shape.rate);
            // What it says of itself is what its shape gives.
            let tokens = (0..shape.parents.len() as u32).collect();
            let tree = DraftTree::from_parents(tokens, shape.parents.clone(), DrawKind::TopK).unwrap();
            let gives = expected(&shape.parents, &rates);
            let cost = draft[tree.max_depth() as usize] + verify[tree.len() - 1];
            proptest::prop_assert!((shape.expected_tokens - gives).abs() < 1e-9);
            proptest::prop_assert!((shape.rate - gives / cost).abs() < 1e-9 * best);
        }
    }

    #[test]
    fn rates_of_their_own_for_each_depth_are_followed() {
        // Two good guesses first, below them one that is nearly sure, and nothing after that.
        let acceptance = [vec![0.5, 0.4], vec![0.9, 0.0], vec![0.0, 0.0]];
        let flat = vec![1.0; 8];
        let shape = OptimalShape::within(&acceptance, &[0.0; 6], &flat, f64::INFINITY).unwrap();
        assert!((shape.expected_tokens - (1.0 + 0.9 + 0.9 * 0.9)).abs() < 1e-12);
        let linear: Vec<f64> = (0..8).map(|nodes| 1.0 + 0.1 * f64::from(nodes)).collect();
        let shape = OptimalShape::within(&acceptance, &[0.0; 6], &linear, f64::INFINITY).unwrap();
        assert_eq!(shape.parents, [NONE, 0, 0, 1, 2]);
        // Lists that are equal give what one list gives.
        let one = OptimalShape::new(&[0.6, 0.2], &[0.0, 0.1, 0.2, 0.3], &linear).unwrap();
        let equal = vec![[0.6, 0.2]; 3];
        let same = OptimalShape::within(&equal, &[0.0, 0.1, 0.2, 0.3], &linear, f64::INFINITY);
        assert_eq!(same.unwrap(), one);
    }

    #[test]
    fn dear_shapes_are_left_out() {
        let linear: Vec<f64> = (0..8).map(|nodes| 1.0 + 0.1 * f64::from(nodes)).collect();
        let within = |most| OptimalShape::within(&[[0.9]], &[0.0; 8], &linear, most).unwrap();
        assert_eq!(within(f64::INFINITY).parents.len(), 8);
        assert_eq!(within(1.25).parents, [NONE, 0, 1]);
        assert!(!within(1.0).speculates() && !within(0.5).speculates());
    }

    #[test]
    fn sure_drafts_make_a_chain_and_unsure_ones_a_bush() {
        let free: Vec<f64> = vec![0.0; 8];
        let flat = vec![1.0; 8];
        let chain = OptimalShape::new(&[1.0, 0.0], &free, &flat).unwrap();
        assert_eq!(chain.parents, [NONE, 0, 1, 2, 3, 4, 5, 6]);
        assert_eq!((chain.expected_tokens, chain.rate), (8.0, 8.0));
        let bush = OptimalShape::new(&[0.14; 7], &free, &flat).unwrap();
        assert_eq!(bush.parents, [NONE, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            bush.paths(),
            (0..7).map(|rank| vec![rank]).collect::<Vec<_>>()
        );
    }

    #[test]
    fn dear_verification_and_useless_drafts_mean_no_speculation() {
        let linear: Vec<f64> = (1..=16).map(f64::from).collect();
        let shape = OptimalShape::new(&[0.9, 0.05], &[0.0; 9], &linear).unwrap();
        assert!(!shape.speculates() && shape.expected_tokens == 1.0 && shape.rate == 1.0);
        let useless = OptimalShape::new(&[0.0], &[0.0; 9], &[1.0; 16]).unwrap();
        assert!(!useless.speculates() && useless.paths().is_empty());
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let plan = OptimalShape::new;
        for (acceptance, draft, verify) in [
            (&[][..], &[0.0][..], &[1.0][..]),
            (&[0.5], &[], &[1.0]),
            (&[0.5], &[0.0], &[]),
            (&[1.5], &[0.0], &[1.0]),
            (&[f64::NAN], &[0.0], &[1.0]),
            (&[0.5], &[-1.0], &[1.0]),
            (&[0.5], &[0.0], &[0.0]),
            (&[0.5], &[0.0], &[f64::INFINITY]),
            (&[0.5], &[0.0], &[1.0; MAX_PLANNED_NODES + 1]),
        ] {
            assert!(plan(acceptance, draft, verify).is_err());
        }
    }
}
