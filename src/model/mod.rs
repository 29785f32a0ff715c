//! model
mod decoder;
mod error;
pub mod gguf;
mod hyperparameters;
mod weights;

pub use decoder::{Decoder, DecoderOptions, StepKind};
pub use error::LoadError;
pub use gguf::{GgmlType, Gguf, GgufError, TensorInfo};
pub use hyperparameters::*;
