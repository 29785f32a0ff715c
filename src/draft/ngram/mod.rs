//! Prompt look-up: what followed the last tokens when they occurred before (Saxena 2023).
//!
//! The longest suffix of the committed tokens, from `max_ngram` down to `min_ngram` tokens, that
//! occurred earlier gives the draft: the tokens after its most recent earlier occurrence. Where the copy
//! reaches the end of the committed tokens it goes on with what it copied, so that a text that repeats
//! with a short period is drafted to the full length.

mod index;

use super::{DraftContext, DraftCost, DraftError, DraftLimits, Drafted, Drafter, Outcome};
use crate::tree::{DraftTree, MAX_NODES};
use index::NgramIndex;

/// The longest n-gram that the index can hold.
pub const MAX_NGRAM: usize = 8;

/// The most earlier occurrences that a draft can follow.
pub const MAX_MATCHES: usize = 64;

/// How an [`NgramDrafter`] searches, and how much it proposes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NgramOptions {
    /// The longest suffix to look for, in tokens; at most [`MAX_NGRAM`]. Default 4.
    pub max_ngram: usize,
    /// The shortest suffix to look for; at least 1. Default 2: a single token occurs again too often to
    /// say much.
    pub min_ngram: usize,
    /// The most tokens of one continuation; at least 1. Default 8.
    pub max_tokens: usize,
    /// How many earlier occurrences are followed, the most recent first; their continuations are merged
    /// into a tree. From 1 to [`MAX_MATCHES`]. Default 1, a chain.
    pub matches: usize,
    /// Whether the length follows recent success: two tokens longer after a draft that was kept whole,
    /// one shorter after any other, within `1..=max_tokens`. Default on.
    pub adapt: bool,
}

impl Default for NgramOptions {
    fn default() -> Self {
        NgramOptions {
            max_ngram: 4,
            min_ngram: 2,
            max_tokens: 8,
            matches: 1,
            adapt: true,
        }
    }
}

/// Drafts by n-gram look-up in the prompt and the output.
#[derive(Debug, Clone)]
pub struct NgramDrafter {
    options: NgramOptions,
    index: NgramIndex,
    /// Tokens that the next continuation may have.
    tokens: usize,
}

impl NgramDrafter {
    /// A drafter that has seen nothing.
    ///
    /// # Errors
    /// [`DraftError::Option`] for an option outside its range.
    pub fn new(options: NgramOptions) -> Result<Self, DraftError> {
        let check = |holds: bool, option: &'static str, needed: &'static str, given: usize| {
            if holds {
                return Ok(());
            }
            Err(DraftError::Option {
                option,
                needed,
                given,
            })
        };
        let NgramOptions {
            max_ngram,
            min_ngram,
            max_tokens,
            matches,
            ..
        } = options;
        check(
            (1..=MAX_NGRAM).contains(&max_ngram),
            "max_ngram",
            "from 1 to 8",
            max_ngram,
        )?;
        check(
            (1..=max_ngram).contains(&min_ngram),
            "min_ngram",
            "at least 1 and at most max_ngram",
            min_ngram,
        )?;
        check(max_tokens > 0, "max_tokens", "at least 1", max_tokens)?;
        check(
            (1..=MAX_MATCHES).contains(&matches),
            "matches",
            "from 1 to 64",
            matches,
        )?;
        Ok(NgramDrafter {
            options,
            index: NgramIndex::new(min_ngram, max_ngram),
            tokens: max_tokens,
        })
    }

    /// The drafter's options.
    pub fn options(&self) -> &NgramOptions {
        &self.options
    }
}

impl Drafter for NgramDrafter {
    fn name(&self) -> &str {
        "ngram"
    }

    fn limits(&self) -> DraftLimits {
        let (depth, matches) = (self.options.max_tokens, self.options.matches);
        let nodes = depth.saturating_mul(matches).saturating_add(1);
        DraftLimits::new(
            nodes.min(MAX_NODES),
            depth.min(MAX_NODES - 1),
            matches > 1,
            DraftCost::Free,
        )
    }

    fn draft(&mut self, context: &DraftContext<'_>) -> Result<Drafted, DraftError> {
        let root = context.root()?;
        let committed = context.committed;
        self.index.extend(committed);
        let max_nodes = context.max_nodes.min(MAX_NODES);
        let length = self.tokens.min(context.max_depth).min(max_nodes - 1);
        let continuations: Vec<Vec<u32>> = self
            .index
            .occurrences(committed)
            .take(match context.branches {
                true => self.options.matches,
                false => 1,
            })
            .map(|end| continuation(committed, end, length))
            .collect();
        let tree = DraftTree::merge(root, &continuations, max_nodes)?;
        Ok(Drafted::OnHost(tree))
    }

    fn observe(&mut self, outcome: &Outcome<'_>) {
        // A step without a match says nothing about the length.
        if !self.options.adapt || outcome.depth == 0 {
            return;
        }
        self.tokens = if outcome.accepted.len() >= outcome.depth {
            self.tokens.saturating_add(2).min(self.options.max_tokens)
        } else {
            self.tokens.saturating_sub(1).max(1)
        };
    }

    fn reset(&mut self) {
        self.index.clear();
        self.tokens = self.options.max_tokens;
    }
}

/// The `length` tokens after `committed[..end]`, going on with the copy where `committed` ends: the
/// period `committed.len() - end` repeats.
fn continuation(committed: &[u32], end: usize, length: usize) -> Vec<u32> {
    committed[end..]
        .iter()
        .copied()
        .cycle()
        .take(length)
        .collect()
}

#[cfg(test)]
mod tests;
