//! What is to be verified: sizes and storage of a batch.

use super::{MAX_TOP_LOG_PROBABILITIES, OutcomeError, Verdict, VerifyError};
use crate::attention::Element;

/// Largest vocabulary that kernels verify.
pub const MAX_VOCABULARY: u32 = 262_144;

/// The sizes of a batch of verifications. How each request is verified is said by its
/// [`VerifyRequest`](super::VerifyRequest), and may differ between the requests of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VerifyProblem {
    /// Requests, each with a tree of its own.
    pub batch: u32,
    /// Most nodes of a tree, the root included: the rows of logits of a request.
    pub max_nodes: u32,
    /// Nodes that the tree blobs have room for, at least `max_nodes`.
    pub tree_stride: u32,
    /// Tokens, at most [`MAX_VOCABULARY`].
    pub vocabulary: u32,
    /// Element type of the logits, target and draft.
    pub element: Element,
    /// Elements from one row of logits to the next, at least `vocabulary`; even for 16-bit elements.
    pub row_stride: u32,
    /// Rows of draft logits a request: at least the highest of a tree's
    /// [`q_rows`](crate::tree::DraftTree::q_rows) and one more. 0 where no tree is drawn by chance.
    pub draft_rows: u32,
    /// Whether any request has penalties: then [`VerifyIo::masks`](super::VerifyIo::masks) is given.
    pub penalties: bool,
    /// Whether any request has a grammar: then [`VerifyIo::masks`](super::VerifyIo::masks) is given.
    pub grammar: bool,
    /// Likeliest tokens that are listed beside each kept one, with their log-probabilities
    /// ([`Verdict::top`]): at most [`MAX_TOP_LOG_PROBABILITIES`]; 0 for no lists.
    pub top_log_probabilities: u32,
}

impl VerifyProblem {
    /// Dense f32 logits, drafts chosen without chance, no penalties and no grammar.
    pub fn new(batch: u32, max_nodes: u32, vocabulary: u32) -> Self {
        Self {
            batch,
            max_nodes,
            tree_stride: max_nodes,
            vocabulary,
            element: Element::F32,
            row_stride: vocabulary,
            draft_rows: 0,
            penalties: false,
            grammar: false,
            top_log_probabilities: 0,
        }
    }

    /// Words of one request's outcome, a multiple of 64 so that it can be bound by itself.
    pub fn outcome_words(&self) -> usize {
        Verdict::words_with(self.max_nodes, self.top_log_probabilities)
    }

    /// Reads the words of one request's outcome.
    ///
    /// # Errors
    /// The error flags of the GPU, and [`OutcomeError::Malformed`].
    pub fn verdict(&self, words: &[u32]) -> Result<Verdict, OutcomeError> {
        Verdict::read(words, self.max_nodes, self.top_log_probabilities)
    }

    /// Words of one bit a token.
    pub fn mask_words(&self) -> u32 {
        self.vocabulary.div_ceil(32)
    }

    /// Rows of masks a request: the occurred tokens, then with a grammar one row a node. 0 without
    /// penalties and grammar.
    pub fn mask_rows(&self) -> u32 {
        match (self.penalties, self.grammar) {
            (_, true) => self.max_nodes + 1,
            (true, false) => 1,
            (false, false) => 0,
        }
    }

    pub(super) fn rows(&self) -> u64 {
        u64::from(self.batch) * u64::from(self.max_nodes)
    }

    pub(super) fn all_draft_rows(&self) -> u64 {
        u64::from(self.batch) * u64::from(self.draft_rows)
    }

    pub(super) fn row_bytes(&self) -> u64 {
        u64::from(self.row_stride) * self.element.bits() / 8
    }

    pub(super) fn check(&self) -> Result<(), VerifyError> {
        let size = |name, needed, given: u32, holds: bool| {
            if holds {
                return Ok(());
            }
            Err(VerifyError::Size {
                name,
                needed,
                given,
            })
        };
        if self.element.is_quantised() {
            return Err(VerifyError::Quantised {
                element: self.element.name(),
            });
        }
        let most_nodes = crate::tree::MAX_NODES as u32;
        size(
            "batch",
            "from 1 to 4096",
            self.batch,
            (1..=4096).contains(&self.batch),
        )?;
        size(
            "max_nodes",
            "from 1 to 4096",
            self.max_nodes,
            (1..=most_nodes).contains(&self.max_nodes),
        )?;
        size(
            "tree_stride",
            "from max_nodes to 4096",
            self.tree_stride,
            (self.max_nodes..=most_nodes).contains(&self.tree_stride),
        )?;
        size(
            "vocabulary",
            "from 1 to 262144",
            self.vocabulary,
            (1..=MAX_VOCABULARY).contains(&self.vocabulary),
        )?;
        size(
            "row_stride",
            "at least the vocabulary, at most 2^20, and a whole number of 4-byte words",
            self.row_stride,
            (self.vocabulary..=1 << 20).contains(&self.row_stride)
                && self.row_bytes().is_multiple_of(4),
        )?;
        size(
            "top_log_probabilities",
            "at most 32",
            self.top_log_probabilities,
            self.top_log_probabilities <= MAX_TOP_LOG_PROBABILITIES,
        )?;
        size(
            "draft_rows",
            "at most max_nodes",
            self.draft_rows,
            self.draft_rows <= self.max_nodes,
        )
    }
}
