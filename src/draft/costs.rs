//! What drafting and verifying cost on one adapter with one model.

use serde_json::{Value, json};

/// Seconds of a step: of drafting to each depth, chains and trees, and of the target's pass and verification for each number of
/// nodes. Between what was measured they are interpolated; more never costs less.
///
/// ```
/// use sunfleck::draft::StepCosts;
///
/// let costs = StepCosts::new(&[(1, 0.040), (3, 0.050)], &[(0, 0.0), (4, 0.008)]).unwrap();
/// assert!((costs.verify()[1] - 0.045).abs() < 1e-9); // two nodes
/// assert!((costs.draft()[3] - 0.006).abs() < 1e-9); // three levels
/// assert_eq!(StepCosts::from_json(&costs.to_json()), Some(costs));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct StepCosts {
    verify: Vec<f64>,    // [nodes - 1]
    draft: Vec<f64>,     // [depth]
    branching: Vec<f64>, // [depth]
}

/// The form of the JSON text; others are not read.
const VERSION: u64 = 2;

impl StepCosts {
    /// From measurements: `(nodes, seconds)` of verifying, among them one node, and `(depth, seconds)` of
    /// drafting, among them depth 0. `None` where one of these is missing or a time is not above 0 (drafting: at
    /// least 0).
    pub fn new(verify: &[(usize, f64)], draft: &[(usize, f64)]) -> Option<Self> {
        let verify = filled(1, verify)?;
        let draft = filled(0, draft)?;
        let holds = verify.iter().all(|cost| *cost > 0.0) && draft.iter().all(|cost| *cost >= 0.0);
        holds.then(|| Self {
            verify,
            branching: draft.clone(),
            draft,
        })
    }

    /// With other costs of drafting trees that branch: `(depth, seconds)`, among them depth 0. Without them such a
    /// tree costs what a chain of its depth does. `None` where these are no measurements, as in [`new`](Self::new).
    pub fn with_branching(self, draft: &[(usize, f64)]) -> Option<Self> {
        let branching = filled(0, draft)?;
        let holds = branching.iter().all(|cost| *cost >= 0.0);
        holds.then_some(Self { branching, ..self })
    }

    /// Seconds of the target's pass and verification: `[nodes - 1]`.
    pub fn verify(&self) -> &[f64] {
        &self.verify
    }

    /// Seconds of drafting: `[depth]`. At depth 0 it is what the drafter does in a step without a draft.
    pub fn draft(&self) -> &[f64] {
        &self.draft
    }

    /// Seconds of drafting, `[depth]`: of chains, or of trees that branch.
    pub fn drafting(&self, branches: bool) -> &[f64] {
        match branches {
            true => &self.branching,
            false => &self.draft,
        }
    }

    /// Seconds of a step without a draft.
    pub fn plain(&self) -> f64 {
        self.draft[0] + self.verify[0]
    }

    /// Seconds of a step with a chain of so many nodes and levels; beyond what is known, as the most known.
    pub fn step(&self, nodes: usize, depth: usize) -> f64 {
        self.step_of(nodes, depth, false)
    }

    /// The same of a chain, or of a tree that branches.
    pub fn step_of(&self, nodes: usize, depth: usize, branches: bool) -> f64 {
        let draft = self.drafting(branches);
        draft[depth.min(draft.len() - 1)] + self.verify[nodes.clamp(1, self.verify.len()) - 1]
    }

    /// The same where every step with a draft costs `factor` times as much; never less than a plain one.
    pub fn with_drafts_times(&self, factor: f64) -> Self {
        let times = |costs: &[f64]| {
            let least = costs[0];
            let mut costs: Vec<f64> = costs
                .iter()
                .map(|cost| (cost * factor).max(least))
                .collect();
            costs[0] = least;
            costs
        };
        Self {
            verify: times(&self.verify),
            draft: times(&self.draft),
            branching: times(&self.branching),
        }
    }

    /// As JSON, to be kept.
    pub fn to_json(&self) -> String {
        let Self {
            verify,
            draft,
            branching,
        } = self;
        json!({ "version": VERSION, "verify": verify, "draft": draft, "branching": branching })
            .to_string()
    }

    /// From what [`to_json`](Self::to_json) wrote; `None` for anything else.
    pub fn from_json(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        if value["version"] != VERSION {
            return None;
        }
        let list = |name: &str, first: usize| {
            let costs = value[name].as_array()?.iter().map(Value::as_f64);
            let costs: Option<Vec<f64>> = costs.collect();
            let costs: Vec<_> = (first..).zip(costs?).collect();
            Some(costs)
        };
        Self::new(&list("verify", 1)?, &list("draft", 0)?)?.with_branching(&list("branching", 0)?)
    }
}

/// A cost for every number from `first` to the largest measured, never falling.
fn filled(first: usize, measured: &[(usize, f64)]) -> Option<Vec<f64>> {
    let mut measured = measured.to_vec();
    measured.sort_by_key(|(at, _)| *at);
    let is_odd = |cost: f64| !cost.is_finite();
    if measured.first()?.0 != first || measured.iter().any(|(_, cost)| is_odd(*cost)) {
        return None;
    }
    // What is dearer with less to do was disturbed.
    for i in (1..measured.len()).rev() {
        measured[i - 1].1 = measured[i - 1].1.min(measured[i].1);
    }
    let mut costs = vec![measured[0].1];
    for pair in measured.windows(2) {
        let [(from, low), (to, high)] = [pair[0], pair[1]];
        for at in from + 1..=to {
            let share = (at - from) as f64 / (to - from) as f64;
            costs.push(if at == to {
                high
            } else {
                low + (high - low) * share
            });
        }
    }
    Some(costs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_filled_and_more_never_costs_less() {
        let costs = StepCosts::new(&[(4, 8.0), (1, 2.0), (2, 9.0)], &[(0, 0.5)]).unwrap();
        assert_eq!(costs.verify(), [2.0, 8.0, 8.0, 8.0]);
        assert_eq!(
            (costs.plain(), costs.step(2, 0), costs.step(99, 9)),
            (2.5, 8.5, 8.5)
        );
        let grown = costs.clone().with_branching(&[(0, 0.5), (2, 4.5)]).unwrap();
        assert_eq!(
            (grown.step_of(2, 1, true), grown.step_of(2, 1, false)),
            (10.5, 8.5)
        );
        let half = grown.with_drafts_times(0.5);
        assert_eq!((half.plain(), half.step(1, 0)), (2.5, 2.5));
        assert_eq!(
            (half.verify(), half.step_of(2, 2, true)),
            (&[2.0, 4.0, 4.0, 4.0][..], 6.25)
        );
        assert_eq!(StepCosts::from_json(&grown.to_json()), Some(grown));
        assert_eq!(costs.with_branching(&[(1, 1.0)]), None);
    }

    #[test]
    fn what_is_no_measurement_is_refused() {
        for (verify, draft) in [
            (&[][..], &[(0, 0.0)][..]),
            (&[(2, 1.0)], &[(0, 0.0)]),
            (&[(1, 0.0)], &[(0, 0.0)]),
            (&[(1, 1.0)], &[(1, 0.0)]),
            (&[(1, 1.0)], &[(0, -1.0)]),
            (&[(1, f64::NAN)], &[(0, 0.0)]),
        ] {
            assert_eq!(StepCosts::new(verify, draft), None);
        }
        for text in [
            "",
            "{}",
            r#"{"version": 1, "verify": [1.0], "draft": [0.0], "branching": [0.0]}"#,
            r#"{"version": 2, "verify": [1.0], "draft": [0.0]}"#,
            r#"{"version": 2, "verify": [], "draft": [0.0], "branching": [0.0]}"#,
            r#"{"version": 2, "verify": ["a"], "draft": [0.0], "branching": [0.0]}"#,
        ] {
            assert_eq!(StepCosts::from_json(text), None, "{text}");
        }
    }
}
