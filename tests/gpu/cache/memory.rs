//! Where a cache keeps what, read back from the GPU.

use sunfleck::{
    attention::Element,
    cache::{CachePart, CacheShape, KvCache, Pager},
    gpu::{BufferView, Capabilities, Gpu},
    reference::quantised::{self, Integers},
    wgpu::Limits,
};

use crate::adapters::TestGpu;

/// Keys or values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    Keys,
    Values,
}

pub const HALVES: [Half; 2] = [Half::Keys, Half::Values];

impl Half {
    pub fn element(self, shape: &CacheShape) -> Element {
        match self {
            Self::Keys => shape.key,
            Self::Values => shape.value,
        }
    }

    pub fn dim(self, shape: &CacheShape) -> usize {
        match self {
            Self::Keys => shape.head_dim as usize,
            Self::Values => shape.value_dim as usize,
        }
    }

    fn view<'a>(self, part: &CachePart<'a>) -> BufferView<'a> {
        match self {
            Self::Keys => part.keys,
            Self::Values => part.values,
        }
    }

    pub fn row_words(self, shape: &CacheShape) -> usize {
        self.element(shape).row_bytes(self.dim(shape) as u32) as usize / 4
    }
}

/// The words of one layer's keys or values, `[kv_head, slot, word]`.
pub fn layer(gpu: &TestGpu, cache: &KvCache, layer: u32, half: Half) -> Vec<u32> {
    let mut all = Vec::new();
    for part in cache.parts(layer) {
        let view = half.view(&part);
        let words: Vec<u32> = gpu.read(view.buffer);
        all.extend_from_slice(&words[(view.offset / 4) as usize..][..(view.size / 4) as usize]);
    }
    all
}

/// The same device, with bindings of at most `bytes`: a cache that is made with it lies in many buffers.
pub fn in_small_bindings(gpu: &TestGpu, bytes: u64) -> Gpu {
    let capabilities = Capabilities {
        limits: Limits {
            max_storage_buffer_binding_size: bytes,
            ..gpu.gpu.capabilities().limits.clone()
        },
        ..gpu.gpu.capabilities().clone()
    };
    Gpu::with_capabilities(gpu.gpu.device(), gpu.gpu.queue(), capabilities)
}

/// Fills keys and values with words that are all different; `salt` makes them others.
pub fn fill(gpu: &TestGpu, cache: &KvCache, salt: u32) {
    for half in HALVES {
        for i in 0..cache.shape().layers {
            let mut first = salt + i * 10_000_000 + u32::from(half == Half::Values) * 500_000_000;
            for part in cache.parts(i) {
                let view = half.view(&part);
                let next = first + (view.size / 4) as u32;
                let words: Vec<u32> = (first..next).collect();
                let queue = gpu.gpu.queue();
                queue.write_buffer(view.buffer, view.offset, bytemuck::cast_slice(&words));
                first = next;
            }
        }
    }
}

/// The slot of a token; `None` where it has none.
pub fn slot(cache: &KvCache, pager: Option<&Pager>, sequence: usize, token: u32) -> Option<usize> {
    let Some(pager) = pager else {
        return (token < cache.capacity())
            .then(|| sequence * cache.capacity() as usize + token as usize);
    };
    let table = pager.table();
    let stride = table.len() / cache.sequences() as usize;
    let entry = (token / pager.page_tokens()) as usize;
    let page = *table[sequence * stride..][..stride].get(entry)?;
    (page < pager.pages())
        .then(|| (page * pager.page_tokens() + token % pager.page_tokens()) as usize)
}

/// Slots of one head.
pub fn slots(cache: &KvCache) -> usize {
    match cache.pool() {
        Some(pool) => (pool.pages * pool.page_tokens) as usize,
        None => (cache.sequences() * cache.capacity()) as usize,
    }
}

/// One row of [`layer`].
pub fn row<'a>(
    cache: &KvCache,
    words: &'a [u32],
    half: Half,
    head: usize,
    slot: usize,
) -> &'a [u32] {
    let row = half.row_words(cache.shape());
    &words[(head * slots(cache) + slot) * row..][..row]
}

/// The values of a row.
pub fn values(element: Element, words: &[u32], dim: usize) -> Vec<f32> {
    let halves = || {
        words
            .iter()
            .flat_map(|word| [*word as u16, (*word >> 16) as u16])
    };
    match element {
        Element::F16 => halves().map(|h| half::f16::from_bits(h).to_f32()).collect(),
        Element::Bf16 => halves()
            .map(|h| half::bf16::from_bits(h).to_f32())
            .collect(),
        Element::Q8 => quantised::decode(Integers::Eight, words, dim),
        Element::Q4 => quantised::decode(Integers::Four, words, dim),
        _ => words.iter().map(|word| f32::from_bits(*word)).collect(),
    }
}
