//! Drafters that read a decoder's features.

mod mtp;
mod residual;

pub use mtp::{Growth, Mtp, MtpWeights};
pub use residual::{ResidualWeights, medusa_logits, residual};
