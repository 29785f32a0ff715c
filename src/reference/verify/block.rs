//! Block verification of a chain (Sun et al. 2024, algorithm 2).

use super::chance::Chance;
use super::{Verified, VerifyError, VerifyInput};
use crate::reference::philox::{Draw, Purpose};

/// Keeps the longest beginning of the chain whose own test passes. With `a_i`, how likely the first `i`
/// tokens are under the target against the draft, at most 1, and `Z_i` the mass of `max(a_i p - q, 0)`,
/// that test passes with probability `Z_i / (Z_i + 1 - a_i)`, for the whole chain `a_last`.
pub(super) fn block(
    input: &VerifyInput<'_>,
    chance: &mut dyn Chance,
) -> Result<Verified, VerifyError> {
    let tree = input.tree;
    let mut kept = (0, 1.0); // the last kept node, and its a
    let mut node = 0;
    let mut a = 1.0;
    while let Some(child) = tree.children(node).next() {
        let token = tree.tokens()[child] as usize;
        let q = input.law_of_first(node, child)[token];
        if q <= 0.0 {
            let token = token as u32;
            return Err(VerifyError::ImpossibleDraft { node: child, token });
        }
        a = f64::min(1.0, a * input.target_row(node)[token] / q);
        node = child;
        let (bound, scale) = match tree.children(child).next() {
            Some(_) => {
                let z: f64 = residual(input, child, a).iter().sum();
                (z, z + 1.0 - a)
            }
            None => (a, 1.0),
        };
        let draw = Draw {
            position: input.position_of(child),
            child: 0,
            purpose: Purpose::AcceptBlock,
            block: tree.depths()[child],
        };
        if chance.is_below(draw, bound, scale) {
            kept = (child, a);
        }
    }
    let (last, a) = kept;
    input.finish(last, &residual(input, last, a), chance)
}

/// `max(a p - q, 0)` after `node`; `p` itself after the last.
fn residual(input: &VerifyInput<'_>, node: usize, a: f64) -> Vec<f64> {
    let p = input.target_row(node);
    let Some(child) = input.tree.children(node).next() else {
        return p.to_vec();
    };
    let q = input.law_of_first(node, child);
    p.iter()
        .zip(q.iter())
        .map(|(p, q)| (a * p - q).max(0.0))
        .collect()
}
