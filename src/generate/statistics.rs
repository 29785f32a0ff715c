//! Counts and times of an answer.

use web_time::Duration;

use super::Step;

/// Counts and times of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the answer, those that ended it not counted.
    pub tokens: usize,
    /// Verification steps after the prompt.
    pub steps: usize,
    /// Draft tokens checked.
    pub drafted: usize,
    /// Draft tokens kept.
    pub accepted: usize,
    /// Tokens that the steps gave, also those past the end of the answer.
    pub stepped_tokens: usize,
    /// Times that the context was shifted.
    pub shifts: usize,
    /// Time for the prompt, up to the first token.
    pub prefill: Duration,
    /// Time for the steps; the next three are parts of it.
    pub decode: Duration,
    /// Time of the drafter on the host.
    pub draft: Duration,
    /// Time from submissions until their verdicts were read: the target model, verification and commit, and what a
    /// drafter does on the GPU.
    pub verify: Duration,
    /// Time for shifting the context.
    pub shift: Duration,
    /// Time after the first token that was spent waiting for kernels to compile
    /// ([`lazy_kernels`](crate::model::DecoderOptions::lazy_kernels)).
    pub compile: Duration,
}

impl Statistics {
    /// Counts a step.
    pub(super) fn add(&mut self, step: &Step) {
        self.steps += 1;
        self.drafted += step.drafted;
        self.accepted += step.accepted;
        self.stepped_tokens += step.tokens.len();
        self.draft += step.draft_time;
        self.verify += step.verify_time;
    }

    /// Tokens of the prompt a second.
    pub fn prefill_tokens_per_second(&self) -> f64 {
        per_second(self.prompt_tokens, self.prefill)
    }

    /// Tokens a second after the prompt. The first token of the answer belongs to the prompt.
    pub fn decode_tokens_per_second(&self) -> f64 {
        per_second(self.stepped_tokens, self.decode)
    }

    /// Tokens a step: 1 without drafts, more with good ones.
    pub fn tokens_per_step(&self) -> f64 {
        per_step(self.stepped_tokens, self.steps)
    }

    /// Drafted tokens kept a step.
    pub fn accepted_per_step(&self) -> f64 {
        per_step(self.accepted, self.steps)
    }
}

fn per_second(count: usize, time: Duration) -> f64 {
    match time.as_secs_f64() {
        0.0 => 0.0,
        seconds => count as f64 / seconds,
    }
}

fn per_step(count: usize, steps: usize) -> f64 {
    match steps {
        0 => 0.0,
        steps => count as f64 / steps as f64,
    }
}
