//! How the next token is chosen, and which drafted tokens are kept.

use crate::verify::{Rule, RuleError, Sampling, SamplingError};

/// How the next token is chosen, and which drafted tokens are kept.
///
/// One seed gives one text: random numbers are keyed by the seed and by positions in the text, whatever the
/// drafts and however the prompt was split. With a lossless rule ([`Rule::is_lossless`]) the *law* of the text does not
/// depend on the drafter; which of the texts a seed gives may.
///
/// ```
/// use sunfleck::{generate::TokenChoice, verify::{Rule, Sampling}};
///
/// let greedy = TokenChoice::default();
/// assert_eq!(greedy.rule, Rule::Greedy);
///
/// let warm = TokenChoice::sampled(Sampling { temperature: 0.8, top_p: 0.95, ..Sampling::default() }, 42);
/// assert!(warm.rule.is_lossless() && warm.check().is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenChoice {
    /// Which drafted tokens are kept. Default [`Rule::Greedy`]: the text of decoding at temperature 0.
    pub rule: Rule,
    /// What is done to the model's logits before a token is chosen. The greedy rule uses the penalties alone.
    pub sampling: Sampling,
    /// Key of the random numbers.
    pub seed: u64,
    /// `Some(0)` reports the log-probabilities of each token of the answer. Likelier tokens beside it are not
    /// reported yet, so that any other number is refused.
    pub log_probabilities: Option<u32>,
}

impl Default for TokenChoice {
    fn default() -> Self {
        Self {
            rule: Rule::Greedy,
            sampling: Sampling::default(),
            seed: 0,
            log_probabilities: None,
        }
    }
}

/// Why tokens can't be chosen so.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ChoiceError {
    /// A number of the sampling options is out of range.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// A number of the rule is out of range, or the rule does not fit the draft.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// Log-probabilities of tokens beside the chosen one.
    #[error(
        "log-probabilities of the {given} likeliest tokens were asked for, but only those of the chosen token \
         are reported; use `log_probabilities: Some(0)`"
    )]
    Likeliest {
        /// Tokens asked for.
        given: u32,
    },
}

impl TokenChoice {
    /// Sampled by the lossless rule that takes any tree.
    pub fn sampled(sampling: Sampling, seed: u64) -> Self {
        Self {
            rule: Rule::Rejection,
            sampling,
            seed,
            ..Self::default()
        }
    }

    /// Refuses numbers outside their ranges.
    ///
    /// # Errors
    /// [`ChoiceError`].
    pub fn check(&self) -> Result<(), ChoiceError> {
        self.sampling.check()?;
        if let Some(given @ 1..) = self.log_probabilities {
            return Err(ChoiceError::Likeliest { given });
        }
        // A tree that every rule fits: what remains are the rule's own numbers.
        self.rule
            .check(&crate::tree::DraftTree::root_only(0), false)?;
        Ok(())
    }

    /// Whether the argmax of the raw logits is all that is wanted: then the cheap verifier does.
    pub(super) fn is_plain_argmax(&self) -> bool {
        self.rule == Rule::Greedy && !self.has_penalty() && self.log_probabilities.is_none()
    }

    pub(super) fn has_penalty(&self) -> bool {
        self.sampling.repetition_penalty != 1.0 || self.sampling.presence_penalty != 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::LossyTypical;

    #[test]
    fn only_the_plain_argmax_takes_the_short_way() {
        assert!(TokenChoice::default().is_plain_argmax());
        // Greedy has no use for a temperature.
        let warm = Sampling {
            temperature: 0.5,
            ..Sampling::default()
        };
        let greedy = TokenChoice {
            sampling: warm,
            ..TokenChoice::default()
        };
        assert!(greedy.is_plain_argmax());
        assert!(!TokenChoice::sampled(warm, 1).is_plain_argmax());
        let penalty = Sampling {
            repetition_penalty: 1.1,
            ..Sampling::default()
        };
        for choice in [
            TokenChoice {
                sampling: penalty,
                ..TokenChoice::default()
            },
            TokenChoice {
                log_probabilities: Some(0),
                ..TokenChoice::default()
            },
        ] {
            assert!(!choice.is_plain_argmax());
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let cold = Sampling {
            temperature: -1.0,
            ..Sampling::default()
        };
        let refused = TokenChoice::sampled(cold, 0).check();
        assert!(matches!(refused, Err(ChoiceError::Sampling(_))));
        let odd = LossyTypical {
            epsilon: 2.0,
            delta: 0.1,
        };
        let refused = TokenChoice {
            rule: Rule::LossyTypical(odd),
            ..TokenChoice::default()
        };
        assert!(matches!(refused.check(), Err(ChoiceError::Rule(_))));
        let likeliest = |given| TokenChoice {
            log_probabilities: Some(given),
            ..TokenChoice::default()
        };
        assert_eq!(likeliest(0).check(), Ok(()));
        assert_eq!(
            likeliest(5).check(),
            Err(ChoiceError::Likeliest { given: 5 })
        );
    }
}
