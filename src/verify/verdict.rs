//! What a verification by sampling decided, as read by the host.

use super::OutcomeError;
use crate::tree::NONE;

/// A likely token where a kept one was chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopToken {
    /// The token.
    pub token: u32,
    /// Natural logarithm of its probability under the softmax of the target's logits.
    pub raw: f32,
    /// The same under the distribution after penalties, mask, temperature and cuts; lowest f32 for a
    /// token without probability there.
    pub processed: f32,
}

/// The verdict on one draft tree, with log-probabilities.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Accepted nodes, the root first: one more than there are accepted draft tokens.
    pub path: Vec<u32>,
    /// Tokens of the accepted nodes below the root, then the bonus token: always at least one.
    pub tokens: Vec<u32>,
    /// Natural logarithm of each token's probability under the softmax of the target's logits.
    pub raw_log_probabilities: Vec<f32>,
    /// The same under the distribution after penalties, mask, temperature and cuts; lowest f32 for a
    /// token without probability there.
    pub log_probabilities: Vec<f32>,
    /// For each token the likeliest where it was chosen, by the raw logits, of equal ones the lower id first. As many
    /// as [`VerifyProblem::top_log_probabilities`](super::VerifyProblem::top_log_probabilities) says, fewer where a row
    /// has fewer numbers; without lists, none.
    pub top: Vec<Vec<TopToken>>,
}

impl Verdict {
    /// Words of a verdict without lists for trees of at most `max_nodes` nodes, a multiple of 64 so that a verdict of
    /// a batch can be bound by itself. With lists: [`VerifyProblem::outcome_words`](super::VerifyProblem::outcome_words).
    pub fn words(max_nodes: u32) -> usize {
        Self::words_with(max_nodes, 0)
    }

    pub(super) fn words_with(max_nodes: u32, top: u32) -> usize {
        let n = max_nodes as usize;
        (2 + 4 * n + 3 * n * top as usize).next_multiple_of(64)
    }

    /// Reads the words that `verify/walk.wgsl` and `verify/sample.wgsl` wrote for one request, without lists. With
    /// lists: [`VerifyProblem::verdict`](super::VerifyProblem::verdict).
    ///
    /// # Errors
    /// The error flags of the GPU, and [`OutcomeError::Malformed`].
    pub fn from_words(words: &[u32], max_nodes: u32) -> Result<Self, OutcomeError> {
        Self::read(words, max_nodes, 0)
    }

    pub(super) fn read(words: &[u32], max_nodes: u32, top: u32) -> Result<Self, OutcomeError> {
        let malformed = OutcomeError::Malformed {
            words: words.len(),
            max_nodes,
        };
        let n = max_nodes as usize;
        if words.len() < Self::words_with(max_nodes, top) {
            return Err(malformed);
        }
        let (accepted, flags) = (words[0] as usize, words[1]);
        OutcomeError::of_flags(flags)?;
        if accepted >= n {
            return Err(malformed);
        }
        let field = |field: usize| &words[2 + field * n..][..accepted + 1];
        let floats = |field_index| {
            field(field_index)
                .iter()
                .map(|w| f32::from_bits(*w))
                .collect()
        };
        Ok(Self {
            path: field(0).to_vec(),
            tokens: field(1).to_vec(),
            raw_log_probabilities: floats(2),
            log_probabilities: floats(3),
            top: match top as usize {
                0 => Vec::new(),
                top => (0..=accepted)
                    .map(|place| {
                        let list = |field| {
                            let at = 2 + 4 * n + (field * n + place) * top;
                            words[at..at + top].iter().copied()
                        };
                        (list(0).zip(list(1)).zip(list(2)))
                            .filter(|((token, _), _)| *token != NONE)
                            .map(|((token, raw), processed)| TopToken {
                                token,
                                raw: f32::from_bits(raw),
                                processed: f32::from_bits(processed),
                            })
                            .collect()
                    })
                    .collect(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_kernels_become_a_verdict() {
        let mut words = vec![0; Verdict::words(2)];
        let half = 0.5f32.to_bits();
        words[..10].copy_from_slice(&[1, 0, 0, 1, 70, 80, half, 0, 0, half]);
        let verdict = Verdict::from_words(&words, 2).unwrap();
        assert_eq!((verdict.path, verdict.tokens), (vec![0, 1], vec![70, 80]));
        assert_eq!(verdict.raw_log_probabilities, [0.5, 0.0]);
        assert_eq!(verdict.log_probabilities, [0.0, 0.5]);
    }

    #[test]
    fn lists_follow_the_verdict_and_leave_out_what_is_not_there() {
        // Two nodes, of which the root alone is kept; lists of three.
        let mut words = vec![0; Verdict::words_with(2, 3)];
        words[4] = 70;
        let bits = |values: [f32; 3]| values.map(f32::to_bits);
        words[10..13].copy_from_slice(&[70, 9, NONE]);
        words[16..19].copy_from_slice(&bits([-0.5, -1.0, f32::MIN]));
        words[22..25].copy_from_slice(&bits([0.0, f32::MIN, f32::MIN]));
        let verdict = Verdict::read(&words, 2, 3).unwrap();
        let entry = |token, raw, processed| TopToken {
            token,
            raw,
            processed,
        };
        let list = vec![entry(70, -0.5, 0.0), entry(9, -1.0, f32::MIN)];
        assert_eq!(verdict.top, [list]);
        assert!(Verdict::from_words(&words, 2).unwrap().top.is_empty());
        assert!(Verdict::read(&words[..14], 2, 3).is_err());
    }

    #[test]
    fn flags_and_impossible_counts_are_errors() {
        let verdict = |accepted, flags| {
            let mut words = vec![0; Verdict::words(2)];
            words[..2].copy_from_slice(&[accepted, flags]);
            Verdict::from_words(&words, 2)
        };
        assert_eq!(verdict(0, 1), Err(OutcomeError::NoArgmax));
        assert_eq!(verdict(0, 2), Err(OutcomeError::BadTree));
        assert_eq!(verdict(0, 4), Err(OutcomeError::ImpossibleDraft));
        assert_eq!(verdict(0, 8), Err(OutcomeError::NotAChain));
        assert_eq!(verdict(0, 16), Err(OutcomeError::RepeatedSiblings));
        assert_eq!(verdict(0, 32), Err(OutcomeError::TokenOutside));
        // What follows from a damaged tree says less than that it is one.
        assert_eq!(verdict(0, 63), Err(OutcomeError::BadTree));
        assert!(matches!(verdict(2, 0), Err(OutcomeError::Malformed { .. })));
        assert!(Verdict::from_words(&[], 0).is_err());
    }
}
