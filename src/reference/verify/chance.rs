//! Where decisions get their randomness.
//!
//! A rule asks for each decision by name ([`Draw`]). [`PhiloxChance`] answers with the numbers that the
//! kernels use; [`enumerate`](super::enumerate) answers with every possibility in turn. The rules
//! themselves are the same, so what is proven of one holds for the other.

use crate::reference::philox::{self, Draw, Purpose};

/// Answers the random questions of a rule.
pub trait Chance {
    /// Whether `u * scale < bound` for a uniform `u` in `[0, 1)`. Strict, so that a bound of 0 is never
    /// met, also where `u` is 0.
    fn is_below(&mut self, draw: Draw, bound: f64, scale: f64) -> bool;

    /// An index with probability `weights[index] / sum(weights)`; `None` when the sum is 0. An index
    /// whose weight is 0 is never given.
    fn sample(&mut self, draw: Draw, weights: &[f64]) -> Option<usize>;
}

/// The draw that tests a child in draw order.
pub(super) fn accept_draw(position: u32, child: u32) -> Draw {
    Draw {
        position,
        child,
        purpose: Purpose::Accept,
        block: 0,
    }
}

/// The draw that samples the token at `position`.
pub(super) fn sample_draw(position: u32) -> Draw {
    Draw {
        position,
        child: 0,
        purpose: Purpose::Sample,
        block: 0,
    }
}

/// The numbers of Philox under one seed: the first word of each draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PhiloxChance {
    seed: u64,
}

impl PhiloxChance {
    /// The numbers of a request with this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The number of `draw`, in `[0, 1)`.
    pub fn uniform(&self, draw: Draw) -> f64 {
        f64::from(philox::uniform(philox::words(self.seed, draw)[0]))
    }
}

impl Chance for PhiloxChance {
    fn is_below(&mut self, draw: Draw, bound: f64, scale: f64) -> bool {
        self.uniform(draw) * scale < bound
    }

    fn sample(&mut self, draw: Draw, weights: &[f64]) -> Option<usize> {
        sample_at(self.uniform(draw), weights)
    }
}

/// The same number for every question, for tests of the ends of the interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FixedChance(
    /// The number, in `[0, 1)`.
    pub f64,
);

impl Chance for FixedChance {
    fn is_below(&mut self, _: Draw, bound: f64, scale: f64) -> bool {
        self.0 * scale < bound
    }

    fn sample(&mut self, _: Draw, weights: &[f64]) -> Option<usize> {
        sample_at(self.0, weights)
    }
}

/// The first index at which the running sum passes `u` times the whole; the last positive one where
/// rounding lets none pass.
fn sample_at(u: f64, weights: &[f64]) -> Option<usize> {
    let total: f64 = weights.iter().sum();
    let mut sum = 0.0;
    let mut last = None;
    for (index, &weight) in weights.iter().enumerate() {
        if weight > 0.0 {
            sum += weight;
            last = Some(index);
            if sum > u * total {
                break;
            }
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_never_leaves_the_support() {
        for u in [0.0, 0.3, 0.5, 0.999_999, 1.0 - 2f64.powi(-24)] {
            let token = sample_at(u, &[0.0, 0.5, 0.0, 0.5, 0.0]);
            assert_eq!(token, Some(if u < 0.5 { 1 } else { 3 }));
        }
        assert_eq!(sample_at(0.0, &[0.0, 0.0]), None);
        // A u of 1 never occurs, and still would not pass the end.
        assert_eq!(sample_at(1.0, &[0.3, 0.3, 0.3, 0.0]), Some(2));
    }

    #[test]
    fn a_bound_of_zero_is_never_met() {
        let draw = sample_draw(0);
        assert!(!FixedChance(0.0).is_below(draw, 0.0, 1.0));
        assert!(FixedChance(0.0).is_below(draw, 1e-300, 1.0));
        assert!(!FixedChance(0.5).is_below(draw, 0.0, 0.0));
    }
}
