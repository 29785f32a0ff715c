//! One answer of a batch.

use web_time::Duration;

use super::{
    super::{
        GenerateError, GenerateOptions, Statistics, Step, given::Given, grammar::Constraint,
        step::StepResult,
    },
    AnswerId, AnswerPart,
};
use crate::{
    draft::{self, Drafter},
    tree::DraftTree,
};

/// An answer under way.
pub(super) struct Answer {
    pub id: AnswerId,
    pub options: GenerateOptions,
    pub drafter: Box<dyn Drafter>,
    pub constraint: Option<Constraint>,
    pub committed: Vec<u32>, // prompt and answer; the last token is not in the cache yet
    pub past: u32,
    pub statistics: Statistics,
    pub first: Option<Given>, // the token after the prompt, until a step hands it out
}

/// What `given` is to the answer in this place, which leaves it at its end.
pub(super) fn hand_out(there: &mut Option<Answer>, given: Given) -> Option<AnswerPart> {
    let answer = there.as_ref()?;
    let part = AnswerPart {
        answer: answer.id,
        tokens: given.tokens,
        finish: given.finish,
        statistics: answer.statistics,
    };
    if part.finish.is_some() {
        *there = None;
    }
    Some(part)
}

impl Answer {
    /// Takes the tokens of a step, of which the first `accepted` were drafted.
    pub fn take(&mut self, result: StepResult, accepted: usize, has_draft: bool) -> Given {
        let tokens = result.tokens.clone();
        let already = self.statistics.tokens;
        let given = Given::new(result, accepted, has_draft, already, &self.options);
        self.committed.extend_from_slice(&tokens[..given.kept]);
        self.statistics.tokens += given.tokens.len();
        given
    }

    /// Takes what a step decided about `tree`.
    pub fn keep(
        &mut self,
        tree: &DraftTree,
        result: StepResult,
        [draft_time, verify_time]: [Duration; 2],
    ) -> Result<Given, GenerateError> {
        if let Some(constraint) = &mut self.constraint {
            constraint.advance(&result.tokens)?;
        }
        let accepted = result.path.len() - 1;
        let outcome = draft::Outcome::new(tree, &result.tokens[..accepted]);
        self.drafter.observe(&outcome.with_path(&result.path));
        self.past += result.path.len() as u32;
        self.statistics.decode += draft_time + verify_time;
        self.statistics.add(&Step {
            tokens: result.tokens.clone(),
            drafted: tree.drafted(),
            depth: tree.max_depth() as usize,
            accepted,
            log_probabilities: Vec::new(),
            draft_time,
            verify_time,
            draft: tree.clone(),
            path: result.path.clone(),
        });
        Ok(self.take(result, accepted, tree.drafted() > 0))
    }
}
