//! Sizes of dispatches that are known on the GPU only.

use wgpu::{Buffer, BufferUsages};

use crate::gpu::{Gpu, GpuError, Limit, check_limit};

/// How many workgroups a dispatch has along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workgroups {
    /// So many.
    Fixed(u32),
    /// One for each `per` keys of the longest sequence, at most `most`.
    OfKeys {
        /// Keys of a workgroup.
        per: u32,
        /// The most there can be.
        most: u32,
    },
}

impl Workgroups {
    /// As `shaders/verify/advance.wgsl` reads it.
    pub(crate) fn words(self) -> [u32; 2] {
        match self {
            Self::Fixed(count) => [count, 0],
            Self::OfKeys { per, most } => [most, per.max(1)],
        }
    }

    /// For sequences of at most `keys` keys.
    pub fn of(self, keys: u32) -> u32 {
        match self {
            Self::Fixed(count) => count,
            Self::OfKeys { per, most } => keys.div_ceil(per.max(1)).min(most),
        }
    }
}

/// The sizes of some dispatches, in GPU memory: written there, and read by the dispatches.
#[derive(Clone, Debug)]
pub struct DispatchSizes {
    rules: Vec<[Workgroups; 3]>,
    buffer: Buffer, // [dispatch, axis]
}

impl DispatchSizes {
    /// Room for the sizes of dispatches by these rules, as for sequences of `keys` keys.
    ///
    /// # Errors
    /// [`GpuError::LimitExceeded`] for more workgroups along an axis than the device has.
    pub fn new(gpu: &Gpu, rules: &[[Workgroups; 3]], keys: u32) -> Result<Self, GpuError> {
        let limits = &gpu.capabilities().limits;
        for most in rules.iter().flatten().map(|rule| rule.of(u32::MAX)) {
            check_limit(
                limits,
                "dispatches sized on the GPU",
                Limit::Workgroups,
                most.into(),
            )?;
        }
        let words: Vec<u32> = rules.iter().flatten().map(|rule| rule.of(keys)).collect();
        let buffer = gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: Some("dispatch sizes"),
            size: (words.len() as u64 * 4).max(12),
            usage: BufferUsages::STORAGE
                | BufferUsages::INDIRECT
                | BufferUsages::COPY_DST
                | BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        gpu.queue()
            .write_buffer(&buffer, 0, bytemuck::cast_slice(&words));
        Ok(Self {
            rules: rules.to_vec(),
            buffer,
        })
    }

    /// The rules.
    pub fn rules(&self) -> &[[Workgroups; 3]] {
        &self.rules
    }

    /// Workgroups, `[dispatch, axis]` of u32.
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }
}

#[cfg(test)]
mod tests {
    use super::Workgroups;

    #[test]
    fn workgroups_follow_the_keys_up_to_the_most() {
        let spans = Workgroups::OfKeys { per: 256, most: 5 };
        assert_eq!(
            [0, 1, 256, 257, 99_999].map(|keys| spans.of(keys)),
            [0, 1, 1, 2, 5]
        );
        assert_eq!(Workgroups::Fixed(7).of(0), 7);
    }
}
