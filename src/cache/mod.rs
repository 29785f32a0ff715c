//! Where keys and values live.

mod commit;
mod contiguous;
mod error;

pub use commit::Commit;
pub use contiguous::{CacheShape, ContiguousCache};
pub use error::CacheError;

pub use crate::ops::CacheElement;

/// Every variant of the cache kernels: see [`crate::variants`].
pub(crate) fn variants() -> Vec<crate::gpu::Kernel> {
    vec![commit::kernel()]
}
