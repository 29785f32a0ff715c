//! Which nodes a tree of independent heads has: the likeliest paths (Cai et al. 2024, Medusa, section 2.3.3).

use std::{cmp::Ordering, collections::BinaryHeap};

use crate::tree::MAX_TOP_K;

/// A path and how likely it is right.
#[derive(Debug, PartialEq)]
struct Candidate {
    probability: f64,
    path: Vec<usize>,
}

impl Eq for Candidate {}

impl Ord for Candidate {
    /// Of equal ones the shorter path comes first, then the one of lower ranks.
    fn cmp(&self, other: &Self) -> Ordering {
        (self.probability.total_cmp(&other.probability))
            .then_with(|| other.path.len().cmp(&self.path.len()))
            .then_with(|| other.path.cmp(&self.path))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// How often the candidate of each rank is the right one, `[head][rank]`, from how often the right one is among
/// the first; never rising in rank.
pub(super) fn rank_rates(hit_rates: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let of_head = |rates: &Vec<f64>| {
        let mut least = 1.0f64;
        let before = std::iter::once(&0.0).chain(rates);
        (rates.iter().zip(before).take(MAX_TOP_K as usize))
            .map(|(rate, before)| {
                least = least.min((rate - before).max(0.0));
                least
            })
            .collect()
    };
    hit_rates.iter().map(of_head).collect()
}

/// Cuts the rates of each head to the ranks that `paths` take of it.
pub(super) fn keep_ranks_of(rates: &mut [Vec<f64>], paths: &[Vec<usize>]) {
    for (head, rates) in rates.iter_mut().enumerate() {
        let ranks = paths.iter().filter_map(|path| path.get(head));
        rates.truncate(ranks.max().map_or(0, |rank| rank + 1));
    }
}

/// The `count` paths that are likeliest right where heads err independently of each other: at most `depth` long
/// and of ranks below `ranks`. Each comes after its prefixes.
pub(super) fn likeliest_paths(
    rates: &[Vec<f64>],
    count: usize,
    depth: usize,
    ranks: usize,
) -> Vec<Vec<usize>> {
    let rate = |head: usize, rank: usize| {
        let rates = rates.get(head).filter(|_| head < depth && rank < ranks);
        rates.and_then(|rates| rates.get(rank)).copied()
    };
    let mut open = BinaryHeap::new();
    let push = |open: &mut BinaryHeap<Candidate>, parent: f64, path: Vec<usize>| {
        let Some((&rank, prefix)) = path.split_last() else {
            return;
        };
        if let Some(own) = rate(prefix.len(), rank) {
            open.push(Candidate {
                probability: parent * own,
                path,
            });
        }
    };
    push(&mut open, 1.0, vec![0]);
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let Some(Candidate { probability, path }) = open.pop() else {
            break;
        };
        let child = [&path[..], &[0]].concat();
        push(&mut open, probability, child);
        if let Some((&rank, prefix)) = path.split_last() {
            // The product of the prefix: from the first to this head's rates.
            let parent: f64 = (prefix.iter().enumerate())
                .map(|(head, &rank)| rates[head][rank])
                .product();
            push(&mut open, parent, [prefix, &[rank + 1]].concat());
        }
        chosen.push(path);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_from_cumulative_rates() {
        let rates = rank_rates(&[vec![0.5, 0.75, 0.75, 0.875]]);
        // The fourth is not counted as likelier than the third.
        assert_eq!(rates, [[0.5, 0.25, 0.0, 0.0]]);
    }

    #[test]
    fn likeliest_paths_by_hand() {
        let rates = [vec![0.5, 0.25], vec![0.6, 0.3]];
        // 0.5; then 0.30 = 0.5 * 0.6, 0.25, 0.15 twice (the lower ranks first), 0.075.
        let all: [&[usize]; 6] = [&[0], &[0, 0], &[1], &[0, 1], &[1, 0], &[1, 1]];
        assert_eq!(likeliest_paths(&rates, 9, 9, 9), all);
        assert_eq!(likeliest_paths(&rates, 3, 9, 9), all[..3]);
        assert_eq!(likeliest_paths(&rates, 9, 1, 9), [[0], [1]]);
        // One rank alone is a chain.
        assert_eq!(likeliest_paths(&rates, 9, 9, 1), [vec![0], vec![0, 0]]);
        assert!(likeliest_paths(&rates, 0, 9, 9).is_empty());
        assert!(likeliest_paths(&[], 9, 9, 9).is_empty());
    }

    #[test]
    fn no_other_choice_of_nodes_keeps_more() {
        // All trees of three nodes below the root over two heads of three ranks, by brute force.
        let rates = [vec![0.4, 0.3, 0.1], vec![0.7, 0.2, 0.05]];
        let value = |path: &Vec<usize>| -> f64 {
            (path.iter().enumerate())
                .map(|(head, &rank)| rates[head][rank])
                .product()
        };
        let mut nodes: Vec<Vec<usize>> = (0..3).map(|rank| vec![rank]).collect();
        nodes.extend((0..9).map(|i| vec![i / 3, i % 3]));
        let mut best = 0.0f64;
        for a in 0..12 {
            for b in a + 1..12 {
                for c in b + 1..12 {
                    let set = [&nodes[a], &nodes[b], &nodes[c]];
                    let whole = (set.iter())
                        .all(|path| path.len() == 1 || set.contains(&&path[..1].to_vec()));
                    if whole {
                        best = best.max(set.iter().map(|path| value(path)).sum());
                    }
                }
            }
        }
        let ours: f64 = likeliest_paths(&rates, 3, 2, 3).iter().map(value).sum();
        assert!((ours - best).abs() < 1e-12, "{ours} {best}");
    }

    #[test]
    fn a_shallower_tree_takes_no_rank_that_the_whole_one_does_not() {
        let mut rates = vec![vec![0.4, 0.1, 0.06, 0.04, 0.03, 0.02], vec![0.3, 0.1]];
        let whole = likeliest_paths(&rates, 4, 2, usize::MAX);
        let most = whole.iter().map(|path| path[0]).max().unwrap();
        assert!(most < 3, "{whole:?}");
        keep_ranks_of(&mut rates, &whole);
        // One level and room for four: only what was found is there.
        let flat = likeliest_paths(&rates, 4, 1, usize::MAX);
        assert_eq!(flat, Vec::from_iter((0..=most).map(|rank| vec![rank])));
    }
}
