//! What a verification looks at, and why it may refuse.

use std::borrow::Cow;

use super::Verified;
use super::chance::{Chance, sample_draw};
use crate::reference::{ReferenceError, check_argument, check_length};
use crate::tree::{DraftTree, DrawKind, NONE};
use crate::verify::RuleError;

/// A draft tree with the distributions that verification compares.
#[derive(Debug, Clone, Copy)]
pub struct VerifyInput<'a> {
    pub(super) tree: &'a DraftTree,
    pub(super) vocabulary: usize,
    pub(super) target: &'a [f64],
    pub(super) draft: Option<&'a [f64]>,
    pub(super) position: u32,
}

/// Why a verification was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The rule does not fit the tree.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// Sizes that do not fit each other.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// No token has any probability after a node.
    #[error(
        "no token may follow node {node}: every logit is NaN or -inf, or the grammar forbids all of them"
    )]
    NoSupport {
        /// The node.
        node: usize,
    },
    /// A drafted token has probability 0 in the distribution from which it was drawn.
    #[error(
        "node {node} holds token {token}, which its draft distribution gives probability 0: the token was \
         not drawn from that row; correct `q_rows`, the draft probabilities or the draw kind"
    )]
    ImpossibleDraft {
        /// The node.
        node: usize,
        /// Its token.
        token: u32,
    },
}

impl<'a> VerifyInput<'a> {
    /// `target` is `[node, vocabulary]`, the distribution after each node, `draft` is
    /// `[row, vocabulary]`, the distributions from which children were drawn, in the rows that
    /// [`DraftTree::q_rows`] names; `None` when no chance was involved. `position` is the absolute
    /// position of the root.
    ///
    /// # Errors
    /// [`ReferenceError`] for slices of other lengths, and for a token outside the vocabulary.
    pub fn new(
        tree: &'a DraftTree,
        vocabulary: usize,
        target: &'a [f64],
        draft: Option<&'a [f64]>,
        position: u32,
    ) -> Result<Self, ReferenceError> {
        check_length(
            "target",
            "[node, vocabulary]",
            target,
            &[tree.len(), vocabulary],
        )?;
        if let Some(draft) = draft {
            let rows = tree.q_rows()[1..].iter().max();
            let rows = rows.map_or(0, |row| *row as usize + 1);
            check_argument(
                draft.len() >= rows.saturating_mul(vocabulary),
                "draft",
                "a row of vocabulary elements for each of the tree's q_rows",
                format!("{} elements for {rows} rows of {vocabulary}", draft.len()),
            )?;
        }
        let outside = tree.tokens()[1..]
            .iter()
            .find(|t| **t as usize >= vocabulary);
        check_argument(
            outside.is_none(),
            "tree",
            "tokens below the vocabulary",
            outside.copied().unwrap_or(0),
        )?;
        Ok(Self {
            tree,
            vocabulary,
            target,
            draft,
            position,
        })
    }

    /// The tree.
    pub fn tree(&self) -> &DraftTree {
        self.tree
    }

    /// Absolute position of the root.
    pub fn position(&self) -> u32 {
        self.position
    }

    /// The target's distribution after `node`.
    pub fn target_row(&self, node: usize) -> &'a [f64] {
        &self.target[node * self.vocabulary..][..self.vocabulary]
    }

    /// The distribution from which the children of `node` were drawn: `None` where no chance was
    /// involved, or for a leaf.
    pub fn draft_row(&self, node: usize) -> Option<&'a [f64]> {
        let child = self.tree.children(node).next()?;
        match (self.tree.draw(), self.tree.q_rows()[child]) {
            (DrawKind::TopK, _) | (_, NONE) => None,
            (_, row) => Some(&self.draft?[row as usize * self.vocabulary..][..self.vocabulary]),
        }
    }

    /// The distribution from which `child` of `node` was drawn where it is the first of its siblings;
    /// all mass on its token where no chance was involved.
    pub(super) fn law_of_first(&self, node: usize, child: usize) -> Cow<'a, [f64]> {
        match self.draft_row(node) {
            Some(row) => Cow::Borrowed(row),
            None => {
                let mut row = vec![0.0; self.vocabulary];
                row[self.tree.tokens()[child] as usize] = 1.0;
                Cow::Owned(row)
            }
        }
    }

    /// Absolute position of `node`.
    pub(super) fn position_of(&self, node: usize) -> u32 {
        self.position.wrapping_add(self.tree.depths()[node])
    }

    /// The path to `last`, and its tokens with one more that is sampled from `weights`. Weights whose
    /// mass is lost to rounding give way to the target's own distribution, so that the token always is
    /// one that the target allows.
    pub(super) fn finish(
        &self,
        last: usize,
        weights: &[f64],
        chance: &mut dyn Chance,
    ) -> Result<Verified, VerifyError> {
        let draw = sample_draw(self.position_of(last).wrapping_add(1));
        let bonus = match chance.sample(draw, weights) {
            Some(token) => token,
            None => chance
                .sample(draw, self.target_row(last))
                .ok_or(VerifyError::NoSupport { node: last })?,
        };
        let path = self.tree.path_to(last).unwrap_or_default();
        let tokens = path[1..]
            .iter()
            .map(|node| self.tree.tokens()[*node as usize])
            .chain([bonus as u32])
            .collect();
        Ok(Verified { path, tokens })
    }
}
