//! A contiguous cache with a fixed capacity.

use wgpu::Buffer;

use super::{CacheElement, CacheError};
use crate::{
    attention::{Element, TensorLayout},
    gpu::{BufferView, Gpu},
};

/// Shape of a cache for one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheShape {
    /// Decoder layers.
    pub layers: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Elements of a head.
    pub head_dim: u32,
    /// Slots: the most keys a sequence can have.
    pub capacity: u32,
    /// Element type.
    pub element: CacheElement,
}

impl CacheShape {
    /// Bytes of one slot of one head.
    fn slot_bytes(&self) -> u64 {
        u64::from(self.head_dim) * self.element.bytes()
    }

    /// Bytes of the keys, or the values, of one layer.
    fn half_bytes(&self) -> u64 {
        u64::from(self.kv_heads) * u64::from(self.capacity) * self.slot_bytes()
    }

    /// Bytes of the whole cache.
    pub fn bytes(&self) -> u64 {
        self.half_bytes() * 2 * u64::from(self.layers)
    }
}

/// Keys and values of all layers, `[layer, key or value, kv_head, slot, head_dim]`, in as few
/// buffers as the binding limit allows, so that a commit is one dispatch a buffer.
#[derive(Clone, Debug)]
pub struct ContiguousCache {
    shape: CacheShape,
    segments: Vec<Buffer>,
    layers_per_segment: u32,
}

impl ContiguousCache {
    /// Allocates a cache; the capacity is rounded up so that every head starts at an offset the
    /// device can bind.
    ///
    /// # Errors
    /// [`CacheError::HeadDim`] for a head that is not a multiple of 16 bytes, and the device's
    /// limits where not even one layer fits a binding.
    pub fn new(gpu: &Gpu, shape: CacheShape) -> Result<Self, CacheError> {
        if !shape.slot_bytes().is_multiple_of(16) || shape.slot_bytes() == 0 {
            return Err(CacheError::HeadDim {
                head_dim: shape.head_dim,
                element_bytes: shape.element.bytes(),
            });
        }
        let limits = &gpu.capabilities().limits;
        let alignment = u64::from(limits.min_storage_buffer_offset_alignment);
        // 16-byte slots need at most alignment / 16 of them to fill an offset step.
        let step = u32::try_from(alignment / 16).unwrap_or(1).max(1);
        let shape = CacheShape {
            capacity: shape.capacity.max(1).next_multiple_of(step),
            ..shape
        };
        let layer_bytes = shape.half_bytes() * 2;
        let largest = limits
            .max_storage_buffer_binding_size
            .min(limits.max_buffer_size);
        let fitting = u32::try_from(largest / layer_bytes).unwrap_or(u32::MAX);
        let layers_per_segment = fitting.clamp(1, shape.layers.max(1));
        let mut segments = Vec::new();
        let mut layer = 0;
        while layer < shape.layers {
            let count = layers_per_segment.min(shape.layers - layer);
            segments.push(gpu.storage("kv cache", layer_bytes * u64::from(count))?);
            layer += count;
        }
        Ok(Self {
            shape,
            segments,
            layers_per_segment,
        })
    }

    /// The shape, with the capacity as allocated.
    pub fn shape(&self) -> &CacheShape {
        &self.shape
    }

    /// Layout of the keys or values of one layer, for an attention problem.
    pub fn layout(&self) -> TensorLayout {
        let element = match self.shape.element {
            CacheElement::F32 => Element::F32,
            CacheElement::F16 => Element::F16,
        };
        TensorLayout::head_major(
            element,
            self.shape.capacity,
            self.shape.kv_heads,
            self.shape.head_dim,
        )
    }

    /// Keys of a layer, `[kv_head, slot, head_dim]`; `None` past the last layer.
    pub fn keys(&self, layer: u32) -> Option<BufferView<'_>> {
        self.half(layer, 0)
    }

    /// Values of a layer.
    pub fn values(&self, layer: u32) -> Option<BufferView<'_>> {
        self.half(layer, 1)
    }

    fn half(&self, layer: u32, half: u64) -> Option<BufferView<'_>> {
        if layer >= self.shape.layers {
            return None;
        }
        let buffer = self
            .segments
            .get((layer / self.layers_per_segment) as usize)?;
        let index = u64::from(layer % self.layers_per_segment) * 2 + half;
        let size = self.shape.half_bytes();
        Some(BufferView::range(buffer, index * size, size))
    }

    pub(super) fn segments(&self) -> &[Buffer] {
        &self.segments
    }

    /// 16-byte units of one slot of one head.
    pub(super) fn slot_quads(&self) -> u32 {
        (self.shape.slot_bytes() / 16) as u32
    }
}
