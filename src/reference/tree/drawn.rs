//! Children drawn by chance: the twin of [`SampledTree`](crate::tree::SampledTree).

use crate::reference::philox::{self, Draw, Purpose};
use crate::tree::DrawKind;

/// A node whose children are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DrawnNode {
    /// Key of the random numbers.
    pub seed: u64,
    /// Absolute position of the children.
    pub position: u32,
    /// Their depth below the root.
    pub depth: u32,
    /// The node's number in its tree.
    pub node: u32,
    /// Logits are divided by it.
    pub temperature: f64,
    /// Only so many of the likeliest tokens stay; 0 keeps all.
    pub top_k: usize,
}

/// A child, and by how much it won against those it was compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DrawnChild {
    /// The token.
    pub token: u32,
    /// Its distance from the next best of all numbers that it was compared with; infinite where there was none.
    pub margin: f64,
}

/// `-ln(-ln(1 - u))` for the middle `u` of the part of the unit interval that a random word names.
pub fn gumbel(word: u32) -> f64 {
    let u = (f64::from(word) + 0.5) / 2f64.powi(32);
    -(-(-u).ln_1p()).ln()
}

/// `count` children of a node with these logits, in draw order: independent ones, or without replacement; fewer where
/// too few tokens have probability. `[vocabulary]`
///
/// The largest of `z + G` is a draw from `softmax(z)`, the `count` largest are draws without replacement (Kool et al.
/// 2019, "Stochastic Beams and Where to Find Them", section 2.3).
///
/// ```
/// use sunfleck::reference::tree::{DrawnNode, drawn};
/// use sunfleck::tree::DrawKind;
///
/// let node = DrawnNode { seed: 1, position: 9, depth: 1, node: 0, temperature: 1.0, top_k: 2 };
/// let children = drawn(&[0.0, 5.0, -1.0, 5.0], &node, 3, DrawKind::WithoutReplacement);
/// let mut tokens: Vec<u32> = children.iter().map(|child| child.token).collect();
/// tokens.sort();
/// assert_eq!(tokens, [1, 3]); // the two likeliest, in an order that chance decides
/// ```
pub fn drawn(logits: &[f32], node: &DrawnNode, count: usize, kind: DrawKind) -> Vec<DrawnChild> {
    let kept = kept(logits, node);
    let scores = |child: u32| {
        let mut scores: Vec<(f64, u32)> = kept
            .iter()
            .map(|&(z, token)| {
                let draw = Draw {
                    position: node.position,
                    child,
                    purpose: Purpose::Draft,
                    block: (node.depth << 25) | (node.node << 16) | (token / 4),
                };
                let word = philox::words(node.seed, draw)[token as usize % 4];
                (z + gumbel(word), token)
            })
            .collect();
        scores.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        scores
    };
    let ranked = |scores: &[(f64, u32)], rank: usize| {
        let &(score, token) = scores.get(rank)?;
        let above = rank.checked_sub(1).map(|above| scores[above].0 - score);
        let below = scores.get(rank + 1).map(|next| score - next.0);
        let margin = above.into_iter().chain(below).fold(f64::INFINITY, f64::min);
        Some(DrawnChild { token, margin })
    };
    match kind {
        DrawKind::Iid => (0..count as u32)
            .filter_map(|child| ranked(&scores(child), 0))
            .collect(),
        _ => {
            let scores = scores(0);
            (0..count)
                .filter_map(|rank| ranked(&scores, rank))
                .collect()
        }
    }
}

/// `(z, token)` of the tokens that have probability.
fn kept(logits: &[f32], node: &DrawnNode) -> Vec<(f64, u32)> {
    let mut all: Vec<(f64, u32)> = logits
        .iter()
        .zip(0..)
        .filter(|(logit, _)| !logit.is_nan() && **logit > f32::NEG_INFINITY)
        .map(|(logit, token)| (f64::from(*logit) / node.temperature, token))
        .collect();
    if node.top_k > 0 && node.top_k < all.len() {
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        all.truncate(node.top_k);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(seed: u64, top_k: usize) -> DrawnNode {
        DrawnNode {
            seed,
            position: 3,
            depth: 1,
            node: 0,
            temperature: 2.0,
            top_k,
        }
    }

    #[test]
    fn gumbel_numbers_are_finite_and_rise_as_the_word_falls() {
        let numbers = [u32::MAX, 1 << 31, 1 << 20, 1, 0].map(gumbel);
        assert!(numbers.is_sorted() && numbers.iter().all(|number| number.is_finite()));
        // The median is -ln(ln 2).
        assert!((gumbel(1 << 31) - 0.366_512_920_58).abs() < 1e-8);
    }

    #[test]
    fn children_have_the_law_of_the_softmax() {
        // softmax(z / 2) with z = 2 ln w has the weights w.
        let weights = [1.0f64, 2.0, 3.0, 4.0];
        let logits = weights.map(|w| (2.0 * w.ln()) as f32);
        let texts = 40_000;
        for kind in [DrawKind::Iid, DrawKind::WithoutReplacement] {
            let mut counts = [[0f64; 4]; 4];
            for seed in 0..texts {
                let children = drawn(&logits, &node(seed, 0), 2, kind);
                counts[children[0].token as usize][children[1].token as usize] += 1.0;
            }
            for (a, row) in counts.iter().enumerate() {
                for (b, count) in row.iter().enumerate() {
                    let first = weights[a] / 10.0;
                    let second = match kind {
                        DrawKind::Iid => weights[b] / 10.0,
                        _ if a == b => 0.0,
                        _ => weights[b] / (10.0 - weights[a]),
                    };
                    let expected = first * second * texts as f64;
                    // Six standard deviations.
                    assert!(
                        (count - expected).abs() <= 6.0 * expected.sqrt(),
                        "{kind:?} {a} {b}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_cut_and_missing_numbers_leave_fewer_tokens() {
        let logits = [1.0, f32::NAN, 7.0, f32::NEG_INFINITY, 7.0];
        for seed in 0..50 {
            let tokens = |top_k, kind| -> Vec<u32> {
                let children = drawn(&logits, &node(seed, top_k), 4, kind);
                children.iter().map(|child| child.token).collect()
            };
            assert_eq!(tokens(0, DrawKind::WithoutReplacement).len(), 3);
            // Of equal ones the lower id stays.
            assert_eq!(tokens(1, DrawKind::Iid), [2; 4]);
            assert_eq!(tokens(1, DrawKind::WithoutReplacement), [2]);
        }
    }
}
