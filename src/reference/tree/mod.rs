//! Draft trees from logits: the twins of the builders on the GPU.
//!
//! | file | twin of |
//! |---|---|
//! | `top_k` | [`TopK`](crate::tree::TopK) |
//! | `dynamic` | [`DynamicTree`](crate::tree::DynamicTree) |
//! | `drawn` | [`SampledTree`](crate::tree::SampledTree) |

mod drawn;
mod dynamic;
mod top_k;

pub use drawn::{DrawnChild, DrawnNode, drawn, gumbel};
pub use dynamic::{DynamicGrowth, Entry};
pub use top_k::{Candidate, top_k};
