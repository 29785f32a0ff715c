//! How one request of a batch is verified, and the words in which kernels read it.

use bytemuck::{Pod, Zeroable};

use super::{LossyTypical, Rule, Sampling, VerifyError, VerifyProblem};
use crate::tree::DrawKind;

/// The rule, randomness and sampling options of one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VerifyRequest {
    /// Which drafted tokens are kept.
    pub rule: Rule,
    /// How the children of the request's trees are drawn.
    pub draw: DrawKind,
    /// Key of the random numbers ([`reference::philox`](crate::reference::philox)): equal seeds at equal
    /// positions give equal decisions, whatever else is in the batch.
    pub seed: u64,
    /// What is done to the target's logits.
    pub sampling: Sampling,
    /// What the drafter did to its logits before it drew from them.
    pub drafting: Sampling,
    /// Whether the request's rows of the grammar mask hold, for target and draft.
    pub grammar: bool,
}

impl VerifyRequest {
    /// A request by `rule`, with draws of kind `draw`, without options.
    pub fn new(rule: Rule, draw: DrawKind, seed: u64) -> Self {
        Self {
            rule,
            draw,
            seed,
            sampling: Sampling::default(),
            drafting: Sampling::default(),
            grammar: false,
        }
    }

    /// Whether the target's rows are cut by top-k, top-p or min-p, or their entropy is asked for, which the same
    /// kernels sum.
    pub(super) fn has_target_cut(&self) -> bool {
        self.sampling.has_cut() || matches!(self.rule, Rule::LossyTypical(_))
    }

    /// Whether rows of the draft's logits are read, and cut.
    pub(super) fn has_draft_cut(&self) -> bool {
        self.is_drawn() && self.drafting.has_cut()
    }

    /// Whether children are drawn by chance.
    pub(super) fn is_drawn(&self) -> bool {
        self.draw != DrawKind::TopK
    }

    /// Whether penalties or a grammar change logits.
    pub(super) fn has_marks(&self) -> bool {
        self.grammar || self.sampling.has_penalty() || self.drafting.has_penalty()
    }

    /// Whether the rule decides from the root down, node by node: `walks_down` of `shaders/verify/wave_write.wgsl`.
    pub(super) fn walks_down(&self) -> bool {
        matches!(
            self.rule,
            Rule::Greedy | Rule::Rejection | Rule::ChainRejection
        )
    }

    /// Whether the rule looks at several tokens together.
    pub(super) fn is_joint(&self) -> bool {
        matches!(self.rule, Rule::Block | Rule::Traversal)
    }

    pub(super) fn words(
        &self,
        problem: &VerifyProblem,
        request: u32,
    ) -> Result<RequestWords, VerifyError> {
        let sampled = self.is_drawn();
        self.rule.check_numbers()?;
        self.rule
            .check_draw(self.draw, sampled && problem.draft_rows > 0)?;
        self.sampling.check()?;
        self.drafting.check()?;
        let fail = |problem| Err(VerifyError::Request { request, problem });
        let has_penalty = self.sampling.has_penalty() || self.drafting.has_penalty();
        if has_penalty && !problem.penalties {
            return fail("has a penalty, but the problem was planned without; set `penalties`");
        }
        if self.grammar && !problem.grammar {
            return fail("has a grammar, but the problem was planned without; set `grammar`");
        }
        let (rule, numbers) = match self.rule {
            Rule::Greedy => (0, [0.0; 2]),
            Rule::Rejection => (1, [0.0; 2]),
            Rule::ChainRejection => (2, [0.0; 2]),
            Rule::LossyTypical(LossyTypical { epsilon, delta }) => (3, [epsilon, delta]),
            Rule::LossyThreshold(bar) => (4, [bar, 0.0]),
            Rule::Block => (5, [0.0; 2]),
            Rule::Traversal => (6, [0.0; 2]),
        };
        let settings = |sampling: &Sampling| SettingsWords {
            // A logit of 0 stays 0, and logits below 3e8 stay apart: more would tie them at the largest f32.
            coldness: (1.0 / sampling.temperature).min(1e30),
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            repetition: sampling.repetition_penalty,
            presence: sampling.presence_penalty,
            uses: u32::from(sampling.has_penalty()) | u32::from(self.grammar) << 1,
            unused: 0,
        };
        Ok(RequestWords {
            rule,
            draw: self.draw as u32,
            seed: [self.seed as u32, (self.seed >> 32) as u32],
            numbers,
            unused: [0; 2],
            sampling: settings(&self.sampling),
            drafting: settings(&self.drafting),
        })
    }
}

/// `Settings` of `shaders/verify/state.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(super) struct SettingsWords {
    coldness: f32,
    top_k: u32,
    top_p: f32,
    min_p: f32,
    repetition: f32,
    presence: f32,
    uses: u32,
    unused: u32,
}

/// `Request` of `shaders/verify/state.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(super) struct RequestWords {
    rule: u32,
    draw: u32,
    seed: [u32; 2],
    numbers: [f32; 2],
    unused: [u32; 2],
    sampling: SettingsWords,
    drafting: SettingsWords,
}
