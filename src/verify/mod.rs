//! Which drafted tokens are kept.

mod greedy;
mod outcome;

pub use greedy::GreedyVerifier;
pub use outcome::{Outcome, OutcomeError};
