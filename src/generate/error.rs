//! Why generation stops with an error.

use super::{ChoiceError, GrammarError, grammar::ConstraintError};
use crate::{
    cache::CacheError,
    draft::DraftError,
    gpu::GpuError,
    model::TokenizerError,
    tree::TreeError,
    verify::{OutcomeError, RuleError, VerifyError},
};

/// An error of a session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// The prompt has no token.
    #[error("the prompt has no token; give at least one")]
    EmptyPrompt,
    /// A token id the model does not have.
    #[error(
        "token {token} at position {position} of the prompt is not below the vocabulary of {vocabulary}"
    )]
    UnknownToken {
        /// The id.
        token: u32,
        /// Where it stands.
        position: usize,
        /// Ids the model has.
        vocabulary: u32,
    },
    /// The prompt leaves no room in the context.
    #[error(
        "the prompt has {prompt} tokens, of which the context of {context} can hold {room}; \
         shorten the prompt or raise the context (the model was made for {trained})"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens of the context.
        context: u32,
        /// Tokens it has room for.
        room: u32,
        /// Context length in the model's metadata.
        trained: u32,
    },
    /// The cache's pages do not suffice, or are not what they should be.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A step without a prompt.
    #[error("a step needs a prompt first; call `read_prompt`")]
    NoPrompt,
    /// The context is full.
    #[error(
        "the context of {context} tokens is full; shift it, reset the session or raise the context"
    )]
    ContextFull {
        /// Tokens of the context.
        context: u32,
    },
    /// The drafter failed.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// The drafter's tree can't be used.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Tokens can't be chosen so, or the rule does not fit what was drafted.
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    /// The answer can't be restricted as was asked for.
    #[error(transparent)]
    Grammar(#[from] GrammarError),
    /// The verification can't be set up.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// A decoder for one sequence was to decode several.
    #[error(
        "the decoder was made for one sequence; load it with `DecoderOptions::sequences` above 1"
    )]
    NotABatch,
    /// Every place of a batch is taken.
    #[error("all {sequences} places of the batch are taken; wait until an answer has left")]
    BatchFull {
        /// Places.
        sequences: u32,
    },
    /// A drafter of a batch proposed something other than a chain in host memory.
    #[error(
        "the drafter `{drafter}` does not draft chains on the host, as those of a batch must; \
         use n-gram look-up or none"
    )]
    BatchDraft {
        /// Its name.
        drafter: String,
    },
    /// Steps could not be timed.
    #[error("the clock gives no time for a step; decode without `auto`")]
    NoCosts,
    /// A token has no text.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The verification reported an error.
    #[error(transparent)]
    Outcome(#[from] OutcomeError),
    /// The device failed.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

impl From<RuleError> for GenerateError {
    fn from(error: RuleError) -> Self {
        Self::Choice(error.into())
    }
}

impl From<ConstraintError> for GenerateError {
    fn from(error: ConstraintError) -> Self {
        match error {
            ConstraintError::Grammar(error) => Self::Grammar(error),
            ConstraintError::Tree(error) => Self::Tree(error),
        }
    }
}
