//! How often children are accepted, counted while decoding.

use super::DraftTree;

/// How often the child of each rank was the one accepted, recent steps weighing most.
///
/// ```
/// use sunfleck::tree::{AcceptanceRates, DraftTree};
///
/// let mut rates = AcceptanceRates::new(&[0.5, 0.1], 0.95);
/// let tree = DraftTree::merge(7, &[[1], [2]], 8)?;
/// rates.observe(&tree, &[0, 2]); // the second child was accepted
/// assert!(rates.rates()[0] < 0.5 && rates.rates()[1] > 0.1);
/// # Ok::<(), sunfleck::tree::TreeError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct AcceptanceRates {
    ranks: Vec<Count>,
    depths: Vec<Vec<Count>>, // [depth of the parent][rank]
    keep: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Count {
    visits: f64,
    accepted: f64,
}

/// What a first guess weighs, in visits.
const GUESS: f64 = 4.0;
/// Depths that are counted apart; below them drafts are too rare to tell.
const MAX_DEPTH: usize = 16;

impl AcceptanceRates {
    /// Rates that start from a guess for each rank. `keep`, from 0 to 1, is what a visit weighs after one
    /// more step; numbers outside are moved in.
    pub fn new(guess: &[f64], keep: f64) -> Self {
        let count = |rate: &f64| Count {
            visits: GUESS,
            accepted: GUESS * rate.clamp(0.0, 1.0),
        };
        Self {
            ranks: guess.iter().map(count).collect(),
            depths: Vec::new(),
            keep: keep.clamp(0.0, 1.0),
        }
    }

    /// Learns from a step that kept the nodes `path` of `tree`, the root first. Nodes that are not of the
    /// tree are passed over.
    pub fn observe(&mut self, tree: &DraftTree, path: &[u32]) {
        for count in self
            .ranks
            .iter_mut()
            .chain(self.depths.iter_mut().flatten())
        {
            count.visits *= self.keep;
            count.accepted *= self.keep;
        }
        let new = Count {
            visits: 0.0,
            accepted: 0.0,
        };
        let seen = path.len().min(MAX_DEPTH).max(self.depths.len());
        self.depths.resize(seen, vec![new; self.ranks.len()]);
        for (step, &node) in path.iter().enumerate() {
            let kept = path.get(step + 1).map(|&child| child as usize);
            let mut own = self.depths.get_mut(step).map(|counts| counts.iter_mut());
            for (child, count) in tree.children(node as usize).zip(&mut self.ranks) {
                let own = own.as_mut().and_then(Iterator::next);
                for count in [Some(count), own].into_iter().flatten() {
                    count.visits += 1.0;
                    count.accepted += f64::from(kept == Some(child));
                }
            }
        }
    }

    /// The rates at each depth below the root, as far down as was seen; where little was seen they lean on the
    /// rates of the ranks at any depth. For [`OptimalShape::within`](super::OptimalShape::within).
    pub fn rates_by_depth(&self) -> Vec<Vec<f64>> {
        let pooled = self.rates();
        let lean = |(count, rate): (&Count, &f64)| {
            (count.accepted + GUESS * rate) / (count.visits + GUESS)
        };
        let lists = self.depths.iter().map(|counts| counts.iter().zip(&pooled));
        let mut lists: Vec<Vec<f64>> = lists.map(|list| list.map(lean).collect()).collect();
        lists.push(pooled);
        lists
    }

    /// The rate of each rank, for [`OptimalShape::new`](super::OptimalShape::new).
    pub fn rates(&self) -> Vec<f64> {
        let rate = |count: &Count| {
            // A keep of 0 forgets everything before a step that drafted nothing.
            if count.visits > 0.0 {
                count.accepted / count.visits
            } else {
                0.0
            }
        };
        self.ranks.iter().map(rate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_approach_what_is_seen() {
        let tree = DraftTree::merge(0, &[vec![1, 3], vec![2]], 8).unwrap();
        let mut rates = AcceptanceRates::new(&[0.5, 0.5, 0.5], 0.9);
        for _ in 0..200 {
            rates.observe(&tree, &[0, 1]);
        }
        // The root's first child is kept, node 1's first is not; the second ranks never.
        let seen = rates.rates();
        assert!((seen[0] - 0.5).abs() < 1e-6 && seen[1] < 1e-6, "{seen:?}");
        // No node had a third child.
        assert!((seen[2] - 0.5).abs() < 1e-6);
    }

    #[test]
    fn depths_are_told_apart() {
        let tree = DraftTree::chain(0, &[1, 2, 3]).unwrap();
        let mut rates = AcceptanceRates::new(&[0.5], 0.95);
        for _ in 0..400 {
            rates.observe(&tree, &[0, 1]);
        }
        // The first draft is kept, the second never, and the third was not looked at.
        let seen = rates.rates_by_depth();
        assert_eq!(seen.len(), 3);
        assert!(seen[0][0] > 0.85 && seen[1][0] < 0.15, "{seen:?}");
        assert!((seen[2][0] - 0.5).abs() < 1e-6, "{seen:?}");
    }

    #[test]
    fn unknown_nodes_and_odd_numbers_do_no_harm() {
        let mut rates = AcceptanceRates::new(&[f64::INFINITY, -3.0], 7.0);
        rates.observe(&DraftTree::root_only(0), &[0, 99]);
        assert_eq!(rates.rates(), [1.0, 0.0]);
        let mut forgetful = AcceptanceRates::new(&[0.5], 0.0);
        forgetful.observe(&DraftTree::root_only(0), &[0]);
        assert_eq!(forgetful.rates(), [0.0]);
    }
}
