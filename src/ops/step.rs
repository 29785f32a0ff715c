//! What one step works on, kept on the GPU.

use wgpu::Buffer;

use crate::gpu::{BufferView, Gpu, GpuError};

/// How many rows (tokens, or nodes of a draft tree) a step computes, and how many keys were
/// committed before it. Four `u32`s: rows, past, 0, 0, which is
/// also the layout of a sequence in the lengths of an attention call.
///
/// The host writes `rows`; `past` belongs to the kernel that finishes a step
/// (`verify/greedy.wgsl`), so that lengths never have to travel to the host and back.
#[derive(Clone, Debug)]
pub struct StepBuffer(Buffer);

impl StepBuffer {
    /// Bytes of a step.
    pub const SIZE: u64 = 16;

    /// A step of `rows` rows after `past` committed keys.
    ///
    /// # Errors
    /// As [`Gpu::storage`].
    pub fn new(gpu: &Gpu, rows: u32, past: u32) -> Result<Self, GpuError> {
        Ok(Self(gpu.storage_with("step", &[rows, past, 0, 0])?))
    }

    /// Sets the number of rows; takes effect with the next submission.
    pub fn set_rows(&self, gpu: &Gpu, rows: u32) {
        gpu.queue()
            .write_buffer(&self.0, 0, bytemuck::bytes_of(&rows));
    }

    /// Sets the number of committed keys, as for a new prompt or a rollback.
    pub fn set_past(&self, gpu: &Gpu, past: u32) {
        gpu.queue()
            .write_buffer(&self.0, 4, bytemuck::bytes_of(&past));
    }

    /// The buffer: `[rows, past, 0, 0]`.
    pub fn buffer(&self) -> &Buffer {
        &self.0
    }

    pub(crate) fn view(&self) -> BufferView<'_> {
        BufferView::whole(&self.0)
    }
}
