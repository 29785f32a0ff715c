//! Buffers and views of them.

use bytemuck::NoUninit;
use wgpu::{BindingResource, Buffer, BufferBinding, BufferDescriptor, BufferUsages, Limits};

use super::{Binding, Gpu, GpuError, Limit, limits, scope};

/// A range of bytes of a buffer, as a kernel argument.
#[derive(Clone, Copy, Debug)]
pub struct BufferView<'a> {
    /// The buffer.
    pub buffer: &'a Buffer,
    /// First byte. For storage a multiple of the device's
    /// `min_storage_buffer_offset_alignment` (256 unless the device was made with less).
    pub offset: u64,
    /// Length in bytes, a multiple of 4.
    pub size: u64,
}

impl<'a> BufferView<'a> {
    /// The whole buffer.
    pub fn whole(buffer: &'a Buffer) -> Self {
        Self {
            buffer,
            offset: 0,
            size: buffer.size(),
        }
    }

    /// `size` bytes from `offset` on.
    pub fn range(buffer: &'a Buffer, offset: u64, size: u64) -> Self {
        Self {
            buffer,
            offset,
            size,
        }
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.buffer == other.buffer
            && self.offset < other.offset.saturating_add(other.size)
            && other.offset < self.offset.saturating_add(self.size)
    }

    pub(super) fn check(
        &self,
        name: &'static str,
        binding: Binding,
        limits: &Limits,
    ) -> Result<(), GpuError> {
        let fail = |problem: String| GpuError::View {
            name,
            offset: self.offset,
            end: self.offset.saturating_add(self.size),
            buffer_size: self.buffer.size(),
            problem,
        };
        let (alignment, usage) = match binding {
            Binding::Uniform => (
                limits.min_uniform_buffer_offset_alignment,
                BufferUsages::UNIFORM,
            ),
            _ => (
                limits.min_storage_buffer_offset_alignment,
                BufferUsages::STORAGE,
            ),
        };
        if self.size == 0 || self.offset.saturating_add(self.size) > self.buffer.size() {
            return Err(fail(
                "use a range that is not empty and inside the buffer".into(),
            ));
        }
        if !self.offset.is_multiple_of(u64::from(alignment)) {
            return Err(fail(format!(
                "the offset must be a multiple of {alignment}"
            )));
        }
        if !self.size.is_multiple_of(4) {
            return Err(fail("the size must be a multiple of 4".into()));
        }
        if !self.buffer.usage().contains(usage) {
            return Err(fail(format!("create the buffer with {usage:?}")));
        }
        Ok(())
    }

    pub(super) fn resource(&self) -> BindingResource<'a> {
        BindingResource::Buffer(BufferBinding {
            buffer: self.buffer,
            offset: self.offset,
            size: std::num::NonZeroU64::new(self.size),
        })
    }
}

impl<'a> From<&'a Buffer> for BufferView<'a> {
    fn from(buffer: &'a Buffer) -> Self {
        Self::whole(buffer)
    }
}

impl Gpu {
    /// A zeroed storage buffer of `size` bytes (rounded up to a multiple of 4, at least 4), that
    /// can be copied from and to.
    ///
    /// # Errors
    /// [`GpuError::LimitExceeded`] when the device allows no buffer of that size, [`GpuError::OutOfMemory`] when it
    /// has too little memory for it (natively; a browser reports that to the page).
    pub fn storage(&self, label: &str, size: u64) -> Result<Buffer, GpuError> {
        // A size that can't be rounded up passes every limit.
        let size = size.max(4).checked_next_multiple_of(4).unwrap_or(u64::MAX);
        limits::check(
            &self.capabilities().limits,
            &format!("buffer `{label}`"),
            Limit::BufferSize,
            size,
        )?;
        self.count_allocation(size);
        let (buffer, error) = scope::told(self.device(), || {
            self.device().create_buffer(&BufferDescriptor {
                label: Some(label),
                size,
                usage: BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            })
        });
        match error {
            None => Ok(buffer),
            Some(error @ wgpu::Error::OutOfMemory { .. }) => Err(GpuError::OutOfMemory {
                what: format!("buffer `{label}`"),
                bytes: size,
                message: error.to_string(),
            }),
            Some(error) => Err(GpuError::Device {
                message: error.to_string(),
            }),
        }
    }

    /// A storage buffer that holds `values`.
    ///
    /// # Errors
    /// As [`Gpu::storage`].
    pub fn storage_with<T: NoUninit>(&self, label: &str, values: &[T]) -> Result<Buffer, GpuError> {
        let mut bytes: Vec<u8> = bytemuck::cast_slice(values).to_vec();
        bytes.resize(bytes.len().max(4).next_multiple_of(4), 0);
        let buffer = self.storage(label, bytes.len() as u64)?;
        match self.upload(&buffer, &bytes) {
            None => Ok(buffer),
            Some(error) => Err(GpuError::Device {
                message: error.to_string(),
            }),
        }
    }

    /// Writes a whole buffer; an error where the device is lost, whose buffers can't be written.
    fn upload(&self, buffer: &Buffer, bytes: &[u8]) -> Option<wgpu::Error> {
        let write = || self.queue().write_buffer(buffer, 0, bytes);
        scope::told(self.device(), write).1
    }

    /// A uniform buffer that holds a kernel's parameter struct. On a lost device it holds nothing, and what is
    /// recorded with it does nothing.
    pub(crate) fn uniform<T: NoUninit>(&self, label: &str, params: &T) -> Buffer {
        let bytes = bytemuck::bytes_of(params);
        self.count_allocation(bytes.len() as u64);
        let (buffer, _) = scope::told(self.device(), || {
            self.device().create_buffer(&BufferDescriptor {
                label: Some(label),
                size: (bytes.len() as u64).next_multiple_of(16),
                usage: BufferUsages::UNIFORM | BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        });
        let _ = self.upload(&buffer, bytes);
        buffer
    }
}
