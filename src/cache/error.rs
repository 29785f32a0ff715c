//! Why a cache is refused.

use crate::gpu::GpuError;

/// An error of making or using a cache.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// A slot of a head is not a whole number of 16-byte units.
    #[error(
        "a head of {head_dim} elements of {element_bytes} bytes is not a multiple of 16 bytes; \
         use f32 storage or a head size that is a multiple of 8"
    )]
    HeadDim {
        /// Elements of a head.
        head_dim: u32,
        /// Bytes of an element.
        element_bytes: u64,
    },
    /// The device refused a buffer or kernel.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}
