//! How the next token is chosen, and which drafted tokens are kept.

use crate::tree::{DraftSampling, MAX_TOP_K};
use crate::verify::{MAX_TOP_LOG_PROBABILITIES, Rule, RuleError, Sampling, SamplingError};

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
    /// `Some(n)` reports the log-probabilities of each token of the answer, and those of the `n` likeliest tokens in
    /// its place: at most [`MAX_TOP_LOG_PROBABILITIES`].
    pub log_probabilities: Option<u32>,
    /// How chains are drafted, by drafters that can draw tokens by chance.
    pub drafts: DraftChoice,
}

/// How a drafter chooses the tokens of a chain, where it can draw them by chance: an MTP module, early exit and a draft
/// model can. Either way the law of the text is the model's.
///
/// ```
/// use sunfleck::{generate::{DraftChoice, TokenChoice}, verify::Sampling};
///
/// let warm = Sampling { temperature: 1.0, ..Sampling::default() };
/// let choice = TokenChoice { drafts: DraftChoice::Drawn, ..TokenChoice::sampled(warm, 42) };
/// assert!(choice.check().is_ok() && choice.rule.is_lossless());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DraftChoice {
    /// The likeliest token of each place.
    #[default]
    Likeliest,
    /// Drawn from the drafter's own distribution, at the temperature of the text: kept with the probability that both
    /// distributions share (Leviathan et al. 2023), which is more where the text is sampled warmly. Up to
    /// [`MAX_DRAWN`](crate::draft::MAX_DRAWN) tokens a step; under the greedy rule, lossy rules and a grammar the likeliest
    /// are drafted all the same.
    Drawn,
}

impl Default for TokenChoice {
    fn default() -> Self {
        Self {
            rule: Rule::Greedy,
            sampling: Sampling::default(),
            seed: 0,
            log_probabilities: None,
            drafts: DraftChoice::default(),
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
    /// Log-probabilities of too many tokens beside the chosen one.
    #[error(
        "log-probabilities of the {given} likeliest tokens were asked for, but at most {most} are reported; ask for \
         fewer"
    )]
    Likeliest {
        /// Tokens asked for.
        given: u32,
        /// The most there can be.
        most: u32,
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
        let most = MAX_TOP_LOG_PROBABILITIES;
        if let Some(given) = self.log_probabilities.filter(|given| *given > most) {
            return Err(ChoiceError::Likeliest { given, most });
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

    /// Likeliest tokens that are listed beside each.
    pub(super) fn top(&self) -> u32 {
        self.log_probabilities.unwrap_or(0)
    }

    /// How drafts are drawn by chance, where the rule can make use of it.
    pub(super) fn draws(&self) -> Option<DraftSampling> {
        let draws = self.drafts == DraftChoice::Drawn && self.rule.uses_draw();
        let Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            ..
        } = self.sampling;
        // What the text's own cuts leave out need not be drafted; the likeliest so many come close to any of them.
        let cuts = top_k > 0 || top_p < 1.0 || min_p > 0.0;
        let most = match top_k {
            0 => MAX_TOP_K,
            top_k => top_k.min(MAX_TOP_K),
        };
        draws.then_some(DraftSampling {
            seed: self.seed,
            temperature,
            top_k: if cuts { most } else { 0 },
        })
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
        assert_eq!(likeliest(32).check(), Ok(()));
        assert_eq!(
            likeliest(33).check(),
            Err(ChoiceError::Likeliest {
                given: 33,
                most: 32
            })
        );
    }

    #[test]
    fn drafts_are_drawn_only_where_the_rule_knows_what_to_do_with_them() {
        let with = |rule, sampling| TokenChoice {
            rule,
            drafts: DraftChoice::Drawn,
            ..TokenChoice::sampled(sampling, 3)
        };
        let plain = Sampling::default();
        let drawn = with(Rule::Block, plain).draws().unwrap();
        assert_eq!((drawn.seed, drawn.temperature, drawn.top_k), (3, 1.0, 0));
        assert_eq!(with(Rule::Greedy, plain).draws(), None);
        assert_eq!(with(Rule::LossyThreshold(0.1), plain).draws(), None);
        assert_eq!(TokenChoice::sampled(plain, 3).draws(), None);
        let cut = |top_k, top_p| {
            with(
                Rule::Rejection,
                Sampling {
                    top_k,
                    top_p,
                    ..plain
                },
            )
        };
        let top_k = |choice: TokenChoice| choice.draws().unwrap().top_k;
        assert_eq!(top_k(cut(5, 1.0)), 5);
        assert_eq!(top_k(cut(500, 1.0)), 32);
        assert_eq!(top_k(cut(0, 0.9)), 32);
    }
}
