//! Which drafted tokens are kept.

mod greedy;
mod outcome;
mod rule;
mod sampling;

pub use greedy::GreedyVerifier;
pub use outcome::{Outcome, OutcomeError};
pub use rule::{LossyTypical, Rule, RuleError};
pub use sampling::{Sampling, SamplingError};

/// Every variant of the verification kernels: see [`crate::variants`].
pub(crate) fn variants() -> Vec<crate::gpu::Kernel> {
    vec![
        greedy::kernel(64),
        greedy::kernel(1024),
        greedy::finish_kernel(),
    ]
}
