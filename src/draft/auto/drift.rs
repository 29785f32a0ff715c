//! What the clock says of costs that were measured before.

use std::collections::VecDeque;

/// How much dearer steps with drafts turn out than their costs say, against steps without.
///
/// Only the ratio counts: others on the machine make both slower.
#[derive(Clone, Debug, Default)]
pub(super) struct Drift {
    plain: Recent,
    drafted: Recent,
}

/// Steps that count, of each kind.
const KEPT: usize = 9;
/// Steps of each kind below which nothing is concluded.
const LEAST: usize = 3;
/// The factor's bounds: what lies outside was no measurement.
const BOUNDS: (f64, f64) = (0.25, 8.0);

impl Drift {
    /// Takes a step that took `seconds` where `expected` was its cost.
    pub fn add(&mut self, drafted: bool, seconds: f64, expected: f64) {
        let ratio = seconds / expected;
        if !(ratio.is_finite() && ratio > 0.0) {
            return;
        }
        match drafted {
            true => self.drafted.add(ratio, expected),
            false => self.plain.add(ratio, expected),
        }
    }

    /// What to multiply the costs of drafts with; 1 until enough of both kinds were seen.
    pub fn factor(&self) -> f64 {
        match (self.drafted.median(), self.plain.median()) {
            (Some(drafted), Some(plain)) => (drafted / plain).clamp(BOUNDS.0, BOUNDS.1),
            _ => 1.0,
        }
    }

    /// What the last steps with drafts were expected to cost.
    pub fn drafted(&self) -> f64 {
        self.drafted.0.iter().map(|(_, expected)| expected).sum()
    }
}

/// The last ratios, and what was expected.
#[derive(Clone, Debug, Default)]
struct Recent(VecDeque<(f64, f64)>);

impl Recent {
    fn add(&mut self, ratio: f64, expected: f64) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((ratio, expected));
    }

    fn median(&self) -> Option<f64> {
        let mut sorted: Vec<f64> = self.0.iter().map(|(ratio, _)| *ratio).collect();
        sorted.sort_by(f64::total_cmp);
        (sorted.len() >= LEAST).then(|| sorted[sorted.len() / 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_ratio_of_both_kinds_counts_and_it_follows_the_last_steps() {
        let mut drift = Drift::default();
        for _ in 0..LEAST {
            assert_eq!(drift.factor(), 1.0);
            // A busy machine: everything takes twice as long.
            drift.add(false, 2.0, 1.0);
            drift.add(true, 6.0, 2.0);
        }
        assert_eq!(drift.factor(), 1.5);
        // One that was disturbed does not count, nor what is no time.
        drift.add(true, 500.0, 2.0);
        drift.add(true, f64::NAN, 2.0);
        drift.add(true, 0.0, 2.0);
        assert_eq!(drift.factor(), 1.5);
        for _ in 0..KEPT {
            drift.add(true, 2.0, 2.0);
        }
        assert_eq!(drift.factor(), 0.5);
    }
}
