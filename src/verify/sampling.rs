//! How logits become the distribution that is sampled from.

/// What is done to a row of logits before it is a distribution, in this order: repetition penalty,
/// presence penalty, grammar mask, temperature, top-k, top-p, min-p.
///
/// Penalties look at the tokens before the row's next token: the committed ones and those on the path
/// to the row's node, so that each branch of a draft tree has its own. Temperature 0 is
/// [`Rule::Greedy`](super::Rule::Greedy).
///
/// ```
/// use sunfleck::verify::Sampling;
///
/// let sampling = Sampling { temperature: 0.7, top_p: 0.9, ..Sampling::default() };
/// assert!(sampling.check().is_ok());
/// let error = Sampling { temperature: 0.0, ..sampling }.check().unwrap_err();
/// assert!(error.to_string().contains("Rule::Greedy"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it. Default 1.
    pub temperature: f32,
    /// Only this many of the likeliest tokens stay, the lower id of equal ones; 0 keeps all (default).
    pub top_k: u32,
    /// Only the fewest likeliest tokens whose probabilities sum to at least this stay (Holtzman et al.
    /// 2020, section 3.1). Default 1, all.
    pub top_p: f32,
    /// Only tokens at least this many times as likely as the likeliest stay (Nguyen et al. 2024). Default
    /// 0, all.
    pub min_p: f32,
    /// Positive logits of tokens that occurred are divided by it, negative ones multiplied (Keskar et al.
    /// 2019, section 4.1). Default 1, none.
    pub repetition_penalty: f32,
    /// Subtracted from the logits of tokens that occurred. Default 0.
    pub presence_penalty: f32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
        }
    }
}

/// A number of [`Sampling`] outside its range.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("`{name}` is {given}; it must be {needed}")]
pub struct SamplingError {
    /// The field.
    pub name: &'static str,
    /// Its range.
    pub needed: &'static str,
    /// What was given.
    pub given: f32,
}

impl Sampling {
    /// Refuses numbers outside their ranges.
    ///
    /// # Errors
    /// [`SamplingError`] for the first.
    pub fn check(&self) -> Result<(), SamplingError> {
        let above_zero = |value: f32| value.is_finite() && value > 0.0;
        let checks = [
            (
                above_zero(self.temperature),
                "temperature",
                "finite and above 0 (for temperature 0 use Rule::Greedy)",
                self.temperature,
            ),
            (
                self.top_p > 0.0 && self.top_p <= 1.0,
                "top_p",
                "above 0 and at most 1",
                self.top_p,
            ),
            (
                (0.0..=1.0).contains(&self.min_p),
                "min_p",
                "from 0 to 1",
                self.min_p,
            ),
            (
                above_zero(self.repetition_penalty),
                "repetition_penalty",
                "finite and above 0 (1 is no penalty)",
                self.repetition_penalty,
            ),
            (
                self.presence_penalty.is_finite(),
                "presence_penalty",
                "finite (0 is no penalty)",
                self.presence_penalty,
            ),
        ];
        match checks.into_iter().find(|(holds, ..)| !holds) {
            None => Ok(()),
            Some((_, name, needed, given)) => Err(SamplingError {
                name,
                needed,
                given,
            }),
        }
    }

    /// Whether any token is cut off.
    pub(super) fn has_cut(&self) -> bool {
        self.top_k > 0 || self.top_p < 1.0 || self.min_p > 0.0
    }

    /// Whether top-p alone decides how many tokens are kept, of a vocabulary.
    pub(super) fn cuts_by_mass(&self, vocabulary: u32) -> bool {
        self.top_p < 1.0 && !(1..vocabulary).contains(&self.top_k)
    }

    /// Whether the tokens that occurred change the distribution.
    pub fn has_penalty(&self) -> bool {
        self.repetition_penalty != 1.0 || self.presence_penalty != 0.0
    }
}
