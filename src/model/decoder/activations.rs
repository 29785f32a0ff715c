//! The buffers between the kernels of a step.

use wgpu::Buffer;

use crate::{
    gpu::{Gpu, GpuError},
    model::Hyperparameters,
};

/// Activation buffers, shared by all layers.
#[derive(Debug)]
pub(crate) struct Activations {
    pub residual: Buffer,     // [row, width]
    pub normed: Buffer,       // [row, width]
    pub qkv: Buffer,          // [row, q heads + 2 kv heads, head_dim]
    pub attended: Buffer,     // [row, q head, head_dim]
    pub gate: Option<Buffer>, // [row, feed forward], where gate and up are apart
    pub feed_forward: Buffer, // [row, feed forward]
    pub rows: u32,
}

/// f32s of a row that holds `width` values and is read in blocks of 32.
pub(crate) fn stride(width: u32) -> u32 {
    width.next_multiple_of(32)
}

/// f32s of a row of queries, keys and values.
pub(crate) fn qkv_width(h: &Hyperparameters) -> u32 {
    (h.head_count + 2 * h.head_count_kv) * h.key_length
}

impl Activations {
    /// Buffers for `rows` rows; `apart` where some layer's gate and up projections differ in type.
    pub fn new(gpu: &Gpu, h: &Hyperparameters, rows: u32, apart: bool) -> Result<Self, GpuError> {
        let buffer =
            |label: &str, width: u32| gpu.storage(label, u64::from(rows) * u64::from(width) * 4);
        let (width, feed_forward) = (h.embedding_length, h.feed_forward_length);
        Ok(Self {
            residual: buffer("residual", stride(width))?,
            normed: buffer("normed", stride(width))?,
            qkv: buffer("qkv", qkv_width(h))?,
            attended: buffer("attended", stride(h.head_count * h.key_length))?,
            gate: match apart {
                true => Some(buffer("gate", stride(feed_forward))?),
                false => None,
            },
            feed_forward: buffer("feed forward", stride(feed_forward))?,
            rows,
        })
    }
}
