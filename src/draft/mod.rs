//! Who proposes the next tokens.
//!
//! A [`Drafter`] looks at the committed tokens and proposes a [`DraftTree`]; the target model then
//! checks all its nodes in one pass. A drafter can be wrong at no cost but time: verification keeps
//! exactly the tokens that the target model would have given.
//!
//! | drafter | proposes | needs |
//! |---|---|---|
//! | [`NoDrafter`] | nothing: plain decoding | nothing |
//! | [`NgramDrafter`] | what followed the last tokens when they occurred before | nothing |
//!
//! ```
//! use sunfleck::draft::{DraftContext, Drafted, Drafter, NgramDrafter, NgramOptions};
//!
//! let mut drafter = NgramDrafter::new(NgramOptions::default())?;
//! // "7 8" occurred before, and 9 followed.
//! let context = DraftContext::new(&[7, 8, 9, 1, 7, 8], 16, 2);
//! let Drafted::OnHost(tree) = drafter.draft(&context)? else { unreachable!() };
//! assert_eq!(tree.tokens(), [8, 9, 1]);
//! # Ok::<(), sunfleck::draft::DraftError>(())
//! ```
//!
//! # Drafters on the GPU
//! Medusa heads, an MTP module, an early exit or a second model draft on the GPU, where the hidden
//! state of the last step lies; a read-back a step would cost more than the draft gains. Such a drafter
//! records its dispatches into the step's encoder, in front of the target's pass, and leaves a tree
//! blob (the layout of [`tree`](crate::tree)) in a buffer; the target, the verification and the commit
//! read the nodes from there. It answers with another variant of [`Drafted`], which names that buffer
//! and the most nodes that it may hold, and gets what it needs to record (the encoder and the buffers
//! of the last step) as further parts of [`DraftContext`]. Both types are `#[non_exhaustive]` for that:
//! the trait stays as it is, and a session that has no place for such drafts refuses them with a typed
//! error.

mod ngram;
mod none;

pub use ngram::{MAX_MATCHES, MAX_NGRAM, NgramDrafter, NgramOptions};
pub use none::NoDrafter;

use crate::tree::{DraftTree, TreeError};

/// What a drafter may look at, and how much it may propose.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct DraftContext<'a> {
    /// All committed tokens, prompt and output; the last one is the root of the draft.
    pub committed: &'a [u32],
    /// The most nodes of the tree, the root included.
    pub max_nodes: usize,
    /// The most drafted tokens on one path: what the cache and the wanted output still have room for.
    pub max_depth: usize,
}

impl<'a> DraftContext<'a> {
    /// Every part of a context.
    pub fn new(committed: &'a [u32], max_nodes: usize, max_depth: usize) -> Self {
        DraftContext {
            committed,
            max_nodes,
            max_depth,
        }
    }

    /// The last committed token, which is the root of every draft.
    ///
    /// # Errors
    /// [`DraftError::NoToken`] when nothing is committed, [`DraftError::NoRoom`] when not even the root
    /// fits.
    pub fn root(&self) -> Result<u32, DraftError> {
        if self.max_nodes == 0 {
            return Err(DraftError::NoRoom);
        }
        self.committed.last().copied().ok_or(DraftError::NoToken)
    }
}

/// Where a draft is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Drafted {
    /// In host memory, to be uploaded with the step.
    OnHost(DraftTree),
}

/// What became of a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome<'a> {
    /// Nodes of the draft, the root not counted.
    pub drafted: usize,
    /// Drafted tokens that one path could have kept at most.
    pub depth: usize,
    /// The drafted tokens that were kept, in order; the bonus token is not one of them.
    pub accepted: &'a [u32],
}

impl<'a> Outcome<'a> {
    /// The outcome of verifying `tree`, which kept the drafted tokens `accepted`.
    pub fn new(tree: &DraftTree, accepted: &'a [u32]) -> Self {
        Outcome {
            drafted: tree.drafted(),
            depth: tree.max_depth() as usize,
            accepted,
        }
    }
}

/// Proposes continuations of the committed tokens.
///
/// A drafter is deterministic: the same calls give the same drafts. It may keep what it learnt from
/// the tokens between calls, but has to notice when `committed` no longer continues what it saw.
pub trait Drafter {
    /// The name for tables and logs, such as `ngram`.
    fn name(&self) -> &str;

    /// Proposes a tree whose root is the last committed token; the root alone when there is nothing to
    /// propose.
    ///
    /// # Errors
    /// [`DraftError`] when the context allows no tree, or the drafter failed.
    fn draft(&mut self, context: &DraftContext<'_>) -> Result<Drafted, DraftError>;

    /// Learns what became of the last draft. Called once a step, after verification.
    fn observe(&mut self, _outcome: &Outcome<'_>) {}

    /// Forgets everything, as before another sequence.
    fn reset(&mut self) {}
}

/// Why there is no draft.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DraftError {
    /// Nothing is committed, so the draft has no root.
    #[error("a draft needs at least one committed token; read the prompt first")]
    NoToken,
    /// The plan has no room for even the root.
    #[error("a draft needs room for at least 1 node, its root, but max_nodes is 0")]
    NoRoom,
    /// An option is outside its range.
    #[error("`{option}` needs to be {needed} but is {given}; change the drafter's options")]
    Option {
        /// The option's name.
        option: &'static str,
        /// Its range.
        needed: &'static str,
        /// What was given.
        given: usize,
    },
    /// The proposal is no valid tree.
    #[error("the draft is no valid tree: {0}")]
    Tree(#[from] TreeError),
}
