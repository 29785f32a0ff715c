//! What an answer may be made of.
//!
//! A [`Grammar`] says after every token which tokens may follow. A session asks it for each node of a draft tree,
//! drops drafts that break it before the target's pass, and gives the rest to verification as bit masks: the law
//! of the text is the model's, with the probability of every other token set to 0.

mod constraint;
mod error;
#[cfg(feature = "grammar")]
mod text;

pub(super) use constraint::{Constraint, ConstraintError, Restricted};
pub use error::GrammarError;
#[cfg(feature = "grammar")]
pub use text::TextGrammar;

/// Restricts an answer, token by token.
///
/// `TextGrammar` (feature `grammar`) does so by a regular expression or a JSON schema. One of your own:
///
/// ```
/// use std::sync::Arc;
/// use sunfleck::generate::{GenerateOptions, Grammar, GrammarError, GrammarState};
///
/// /// Even tokens after odd ones, and odd ones after even ones, to the end.
/// #[derive(Debug)]
/// struct Alternating;
///
/// struct Last(Vec<u32>);
///
/// impl Grammar for Alternating {
///     fn begin(&self) -> Result<Box<dyn GrammarState>, GrammarError> {
///         Ok(Box::new(Last(vec![0])))
///     }
/// }
///
/// impl GrammarState for Last {
///     fn allow(&mut self, allowed: &mut [u32]) -> Result<(), GrammarError> {
///         let is_even = self.0.last().is_some_and(|token| token % 2 == 0);
///         allowed.fill(if is_even { 0xaaaa_aaaa } else { 0x5555_5555 });
///         Ok(())
///     }
///
///     fn push(&mut self, token: u32) -> Result<(), GrammarError> {
///         self.0.push(token);
///         Ok(())
///     }
///
///     fn pop(&mut self, tokens: usize) -> Result<(), GrammarError> {
///         self.0.truncate(self.0.len().saturating_sub(tokens));
///         Ok(())
///     }
/// }
///
/// let options = GenerateOptions { grammar: Some(Arc::new(Alternating)), ..Default::default() };
/// assert!(options.grammar.is_some());
/// ```
pub trait Grammar: std::fmt::Debug + Send + Sync {
    /// The state before the first token of an answer.
    ///
    /// # Errors
    /// [`GrammarError`] when there is none.
    fn begin(&self) -> Result<Box<dyn GrammarState>, GrammarError>;
}

/// Where an answer stands in its grammar.
pub trait GrammarState {
    /// Says which tokens may follow: bit `token % 32` of word `token / 32`. The words come cleared, enough of
    /// them for the model's vocabulary. A token that ends the answer is to be among them where the answer may end;
    /// where no token is, the answer ends with [`GrammarError::DeadEnd`].
    ///
    /// # Errors
    /// [`GrammarError`] ends the answer.
    fn allow(&mut self, allowed: &mut [u32]) -> Result<(), GrammarError>;

    /// Goes on by a token that is allowed.
    ///
    /// # Errors
    /// As [`allow`](Self::allow).
    fn push(&mut self, token: u32) -> Result<(), GrammarError>;

    /// Takes the last `tokens` tokens back.
    ///
    /// # Errors
    /// As [`allow`](Self::allow).
    fn pop(&mut self, tokens: usize) -> Result<(), GrammarError>;
}
