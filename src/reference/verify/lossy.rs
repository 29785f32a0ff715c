//! The lossy rules: typical acceptance (Cai et al. 2024, Medusa, section 2.3.1) and a threshold.

use super::chance::Chance;
use super::{Verified, VerifyError, VerifyInput};
use crate::verify::LossyTypical;

/// A token is kept when it is not unlikely for how uncertain the target is.
pub(super) fn typical(
    input: &VerifyInput<'_>,
    bar: LossyTypical,
    chance: &mut dyn Chance,
) -> Result<Verified, VerifyError> {
    longest(input, chance, |p| {
        let delta = f64::from(bar.delta) * (-entropy(p)).exp();
        f64::min(f64::from(bar.epsilon), delta)
    })
}

/// A token is kept when the target gives it more than `bar`.
pub(super) fn threshold(
    input: &VerifyInput<'_>,
    bar: f64,
    chance: &mut dyn Chance,
) -> Result<Verified, VerifyError> {
    longest(input, chance, |_| bar)
}

/// Entropy in nats.
fn entropy(p: &[f64]) -> f64 {
    p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum()
}

/// The deepest node of which every token on the way has a probability above the bar at its parent; of
/// equally deep ones that with the likeliest path, then the lowest.
fn longest(
    input: &VerifyInput<'_>,
    chance: &mut dyn Chance,
    bar: impl Fn(&[f64]) -> f64,
) -> Result<Verified, VerifyError> {
    let tree = input.tree;
    let mut path_log_p = vec![None; tree.len()]; // sum of log p; None: not kept
    path_log_p[0] = Some(0.0);
    let mut best = (0, 0.0, 0); // depth, sum of log p, node
    for node in 0..tree.len() {
        let Some(log_p) = path_log_p[node] else {
            continue;
        };
        let depth = tree.depths()[node];
        if (depth, log_p) > (best.0, best.1) {
            best = (depth, log_p, node);
        }
        let p = input.target_row(node);
        let bar = bar(p);
        for child in tree.children(node) {
            let p = p[tree.tokens()[child] as usize];
            if p > bar {
                path_log_p[child] = Some(log_p + p.ln());
            }
        }
    }
    input.finish(best.2, input.target_row(best.2), chance)
}
