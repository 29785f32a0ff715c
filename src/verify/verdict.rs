//! What a verification by sampling decided, as read by the host.

use super::OutcomeError;

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
}

impl Verdict {
    /// Words of a verdict for trees of at most `max_nodes` nodes, a multiple of 64 so that a verdict of a
    /// batch can be bound by itself.
    pub fn words(max_nodes: u32) -> usize {
        (2 + 4 * max_nodes as usize).next_multiple_of(64)
    }

    /// Reads the words that `verify/walk.wgsl` and `verify/sample.wgsl` wrote for one request.
    ///
    /// # Errors
    /// The error flags of the GPU, and [`OutcomeError::Malformed`].
    pub fn from_words(words: &[u32], max_nodes: u32) -> Result<Self, OutcomeError> {
        let malformed = OutcomeError::Malformed {
            words: words.len(),
            max_nodes,
        };
        let n = max_nodes as usize;
        if words.len() < Self::words(max_nodes) {
            return Err(malformed);
        }
        let (accepted, flags) = (words[0] as usize, words[1]);
        for (flag, error) in [
            (2, OutcomeError::BadTree),
            (4, OutcomeError::ImpossibleDraft),
            (8, OutcomeError::NotAChain),
            (1, OutcomeError::NoArgmax),
        ] {
            if flags & flag != 0 {
                return Err(error);
            }
        }
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
        assert!(matches!(verdict(2, 0), Err(OutcomeError::Malformed { .. })));
        assert!(Verdict::from_words(&[], 0).is_err());
    }
}
