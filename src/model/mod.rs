//! A Llama-family decoder from a GGUF file, or a folder as [`hugging_face`] has it.
//!
//! In the order a file is opened:
//!
//! 1. [`gguf`]: header, metadata and tensor table, read without touching the weights;
//! 2. [`Hyperparameters`]: the shape of the decoder by metadata, and the check of every tensor;
//! 3. [`Tokenizer`] and [`ChatTemplate`]: text to token ids and back, and a turn to a prompt;
//! 4. [`Decoder`]: the weights on the GPU, and the kernels of all layers as one step.

mod architecture;
mod batch_paging;
mod chat;
mod date;
mod decoder;
mod error;
mod fingerprint;
pub mod gguf;
pub mod hugging_face;
mod hyperparameters;
mod paging;
mod rope_scaling;
mod source;
mod tokenizer;
mod weights;

pub use architecture::Architecture;
pub(crate) use batch_paging::BatchPaging;
pub use chat::{ChatError, ChatTemplate};
pub(crate) use decoder::{BatchDecoder, ChainRows, parts};
pub use decoder::{Decoder, DecoderOptions, StepKind};
pub use error::LoadError;
pub(crate) use fingerprint::Fnv;
pub use gguf::{GgmlType, Gguf, GgufError, TensorInfo};
pub use hyperparameters::{Hyperparameters, ModelError};
pub(crate) use paging::Paging;
pub use rope_scaling::{LongRope, RopeScaling, Yarn};
pub use source::{ReaderSource, WeightSource};
pub use tokenizer::{DecodeStream, Tokenizer, TokenizerError};
pub(crate) use weights::WeightLoader;
