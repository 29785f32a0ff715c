//! Which drafted tokens are kept: the twins of the verification kernels, one file a rule.
//!
//! | file | rule |
//! |---|---|
//! | `greedy` | the target's argmax |
//! | `rejection` | children tested one after another: trees and chains |
//! | `block` | a chain decided on together |
//! | `traversal` | a tree decided on from the leaves |
//! | `lossy` | typical acceptance and a threshold |
//!
//! [`processing`] makes distributions of logits; [`chance`] is where decisions get their randomness;
//! [`enumerate`] replaces the randomness by every possible decision and so gives the exact law of the
//! output, which is how the rules called lossless are proven to be.
//!
//! ```
//! use sunfleck::reference::verify::{VerifyInput, chance::PhiloxChance, verify};
//! use sunfleck::{tree::DraftTree, verify::Rule};
//!
//! // The target gives the drafted token 1 half of the mass after token 0, and token 2 all after token 1.
//! let tree = DraftTree::chain(0, &[1])?;
//! let input = VerifyInput::new(&tree, 3, &[0.5, 0.5, 0.0, 0.0, 0.0, 1.0], None, 17)?;
//! let verified = verify(Rule::Rejection, &input, &mut PhiloxChance::new(42))?;
//! assert!(verified.tokens == [1, 2] || verified.tokens == [0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod block;
pub mod chance;
pub mod enumerate;
mod greedy;
mod input;
mod log_probabilities;
mod lossy;
pub mod processing;
mod rejection;
mod traversal;

pub use greedy::greedy;
pub use input::{VerifyError, VerifyInput};
pub use log_probabilities::{TokenLogProbability, log_probabilities, top_log_probabilities};
pub use rejection::Residual;

use super::reduce::{self, NO_ID};
use crate::verify::Rule;
use chance::Chance;

/// What one verification step keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Accepted nodes from the root down, the root included: what the commit keeps in the cache.
    pub path: Vec<u32>,
    /// The new tokens: those of the accepted nodes after the root, then the bonus token.
    pub tokens: Vec<u32>,
}

impl Verified {
    /// How many drafted tokens were accepted; the bonus token is not one.
    pub fn accepted(&self) -> usize {
        self.path.len() - 1
    }

    /// The token after the last accepted node, which the target model chose itself.
    pub fn bonus(&self) -> u32 {
        self.tokens.last().copied().unwrap_or(NO_ID)
    }
}

/// Applies `rule` to `input`, with decisions by `chance`.
///
/// # Errors
/// [`VerifyError::Rule`] when the rule does not fit the tree, [`VerifyError::NoSupport`] for a row
/// without mass, [`VerifyError::ImpossibleDraft`] for a token that can't have been drawn.
pub fn verify(
    rule: Rule,
    input: &VerifyInput<'_>,
    chance: &mut dyn Chance,
) -> Result<Verified, VerifyError> {
    rule.check(input.tree, input.draft.is_some())?;
    match rule {
        Rule::Greedy => {
            let argmax: Vec<u32> = (0..input.tree.len())
                .map(|node| {
                    reduce::argmax(input.target_row(node)).map_or(NO_ID, |token| token as u32)
                })
                .collect();
            Ok(greedy(input.tree, &argmax)?)
        }
        Rule::Rejection | Rule::ChainRejection => rejection::rejection(input, chance),
        Rule::Block => block::block(input, chance),
        Rule::Traversal => traversal::traversal(input, chance),
        Rule::LossyTypical(bar) => lossy::typical(input, bar, chance),
        Rule::LossyThreshold(bar) => lossy::threshold(input, f64::from(bar), chance),
    }
}

#[cfg(test)]
mod tests;
