//! What a verification decided, as read by the host.

/// The verdict on one draft tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Accepted nodes, the root first: one more than there are accepted draft tokens.
    pub path: Vec<u32>,
    /// Tokens of the accepted nodes below the root, then the bonus token: always at least one.
    pub tokens: Vec<u32>,
}

/// Why an outcome can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutcomeError {
    /// Every logit of a node was NaN, or -inf or forbidden where tokens are sampled.
    #[error(
        "no token may follow a node: its logits are all NaN or -inf (the weights are damaged or their \
         values overflow), or the grammar forbids every token"
    )]
    NoArgmax,
    /// The tree in the GPU buffer was not a valid tree.
    #[error(
        "the draft tree on the GPU is not a tree: a child must come after its parent, every node be in its parent's list of children, and all fields of the blob agree"
    )]
    BadTree,
    /// A drafted token has probability 0 in the distribution from which it was drawn.
    #[error(
        "a drafted token has probability 0 in its draft distribution: it was not drawn from that row; \
         correct the draft logits, the tree's q_rows or the draw kind"
    )]
    ImpossibleDraft,
    /// A drafted token is none of the vocabulary.
    #[error("a drafted token is outside the vocabulary; correct the drafter or its token map")]
    TokenOutside,
    /// Two siblings have the same token, though their draw gives distinct ones.
    #[error(
        "two siblings of the draft have the same token, but the request's draw gives distinct ones; merge them, or say DrawKind::Iid if they were drawn independently"
    )]
    RepeatedSiblings,
    /// A rule for chains met a node with two children.
    #[error("the draft branches, but the request's rule is for chains; use Rule::Rejection")]
    NotAChain,
    /// The buffer is too short or its counts are out of range.
    #[error("the outcome has {words} words, which does not fit trees of {max_nodes} nodes")]
    Malformed {
        /// Words given.
        words: usize,
        /// Nodes the verifier was made for.
        max_nodes: u32,
    },
}

impl OutcomeError {
    /// The error of a verification's flags, if there is one. What is wrong with the tree comes before what follows
    /// from it.
    pub(super) fn of_flags(flags: u32) -> Result<(), Self> {
        for (flag, error) in [
            (2, Self::BadTree),
            (32, Self::TokenOutside),
            (16, Self::RepeatedSiblings),
            (4, Self::ImpossibleDraft),
            (8, Self::NotAChain),
            (1, Self::NoArgmax),
        ] {
            if flags & flag != 0 {
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Outcome {
    /// Words of an outcome for trees of at most `max_nodes` nodes.
    pub fn words(max_nodes: u32) -> usize {
        2 + 2 * max_nodes as usize
    }

    /// Reads the words that `verify/greedy.wgsl` wrote.
    ///
    /// # Errors
    /// The error flags of the GPU, and [`OutcomeError::Malformed`].
    pub fn from_words(words: &[u32], max_nodes: u32) -> Result<Self, OutcomeError> {
        let malformed = OutcomeError::Malformed {
            words: words.len(),
            max_nodes,
        };
        let n = max_nodes as usize;
        let (Some(accepted), Some(flags)) = (words.first(), words.get(1)) else {
            return Err(malformed);
        };
        OutcomeError::of_flags(*flags)?;
        let count = (*accepted as usize).saturating_add(1);
        if count > n || words.len() < Self::words(max_nodes) {
            return Err(malformed);
        }
        Ok(Self {
            path: words[2..2 + count].to_vec(),
            tokens: words[2 + n..2 + n + count].to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_kernel_become_path_and_tokens() {
        let words = [1, 0, 0, 2, 0, 70, 80, 0];
        let outcome = Outcome::from_words(&words, 3).unwrap();
        assert_eq!(outcome.path, [0, 2]);
        assert_eq!(outcome.tokens, [70, 80]);
    }

    #[test]
    fn flags_and_impossible_counts_are_errors() {
        let no_argmax = Outcome::from_words(&[0, 1, 0, 0], 1);
        assert_eq!(no_argmax, Err(OutcomeError::NoArgmax));
        let bad_tree = Outcome::from_words(&[0, 2, 0, 0], 1);
        assert_eq!(bad_tree, Err(OutcomeError::BadTree));
        for words in [vec![], vec![0], vec![u32::MAX, 0, 0, 0], vec![0, 0, 0]] {
            let result = Outcome::from_words(&words, 1);
            assert!(matches!(result, Err(OutcomeError::Malformed { .. })));
        }
    }
}
