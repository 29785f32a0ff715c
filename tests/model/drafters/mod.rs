//! Drafters: their drafts, and the text that comes of them.

mod real;
mod refused;
mod resumed;
mod rules;
mod tensors;
mod texts;
mod twins;

pub use tensors::Tensors;
pub use twins::Alternating;
