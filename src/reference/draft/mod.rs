//! Drafters that read a decoder's features.

mod mtp;

pub use mtp::{Mtp, MtpWeights};
