//! Where keys and values live.

mod commit;
mod contiguous;
mod error;

pub use commit::Commit;
pub use contiguous::{CacheShape, ContiguousCache};
pub use error::CacheError;

pub use crate::ops::CacheElement;
