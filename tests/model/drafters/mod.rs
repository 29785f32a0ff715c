//! Drafters: their drafts, and the text that comes of them.

mod tensors;
mod texts;
mod twins;

pub use tensors::Tensors;
pub use twins::Alternating;
