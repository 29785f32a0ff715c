//! Tiled online-softmax attention: problem, plan, encode.

mod error;
mod plan;
mod problem;
mod variants;

pub use error::AttentionError;
pub use plan::{
    Attention, AttentionIo, AttentionPlan, AttentionWorkspace, PreparedAttention, lengths,
};
pub use problem::{AttentionProblem, Element, Mask, TensorLayout};

/// What the GPU writes as the LSE of a row that sees no key, in place of -inf. Its output is 0.
pub const NO_KEY: f32 = -1e30;
