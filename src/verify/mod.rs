//! Which drafted tokens are kept.

mod greedy;
mod outcome;

pub use greedy::GreedyVerifier;
pub use outcome::{Outcome, OutcomeError};

/// Every variant of the verification kernels: see [`crate::variants`].
pub(crate) fn variants() -> Vec<crate::gpu::Kernel> {
    vec![
        greedy::kernel(64),
        greedy::kernel(1024),
        greedy::finish_kernel(),
    ]
}
