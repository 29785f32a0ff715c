//! Why a model can't be loaded.

use super::{GgmlType, GgufError, ModelError};
use crate::{attention::AttentionError, cache::CacheError, gpu::GpuError};

/// An error of loading a model onto the GPU.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file can't be read or is damaged.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The model is not one the decoder can run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A norm weight of a type other than F32, F16 and BF16.
    #[error("tensor `{tensor}` is stored as {kind}; a norm's weight must be F32, F16 or BF16")]
    VectorType {
        /// The tensor.
        tensor: String,
        /// Its type.
        kind: GgmlType,
    },
    /// A tensor with more rows or columns than kernels can count.
    #[error("tensor `{tensor}` of shape {shape:?} is too large: rows and columns must fit 32 bits")]
    TooLarge {
        /// The tensor.
        tensor: String,
        /// Its shape in ggml's order.
        shape: Vec<u64>,
    },
    /// A part of the model that must exist is empty.
    #[error("the model has no layers or no embedding; the file is not a usable model")]
    Empty,
    /// More sequences at once than a step has rows for.
    #[error(
        "{given} sequences were asked for, but with up to {draft} drafted tokens each a step holds {most}; \
         lower `sequences` or `max_draft`"
    )]
    Sequences {
        /// Sequences asked for.
        given: u32,
        /// Sequences that fit.
        most: u32,
        /// Drafted tokens of a step.
        draft: u32,
    },
    /// Attention can't be planned for the model's shape.
    #[error(transparent)]
    Attention(#[from] AttentionError),
    /// The cache can't be made for the model's shape.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The device refused a kernel or buffer.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}
