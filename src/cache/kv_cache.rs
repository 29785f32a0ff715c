//! GPU memory for keys and values, contiguous or in pages.

use std::ops::Range;

use wgpu::Buffer;

use super::{CacheError, CacheShape};
use crate::{
    gpu::{BufferView, Gpu},
    ops::{Pages, TensorLayout},
};

/// Bytes to which each layer's keys and values are aligned, so that every device can bind them.
const ALIGNMENT: u64 = 256;

/// Pages of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// Tokens of a page: a power of 2 from 16 to 256. Small pages waste less at a sequence's end and
    /// share more; large ones need fewer look-ups.
    pub page_tokens: u32,
    /// Pages in the pool, shared by all sequences and layers.
    pub pages: u32,
}

/// How keys and values lie, for an attention problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLayout {
    /// Layout of the keys of one layer.
    pub key: TensorLayout,
    /// Layout of the values of one layer.
    pub value: TensorLayout,
    /// The pages, where there are any.
    pub pages: Option<Pages>,
}

/// The page table on the GPU, and what it describes.
#[derive(Clone, Debug)]
struct Paging {
    table: Buffer, // [sequence, page of the sequence]
    page_tokens: u32,
    table_stride: u32,
    pages: u32,
}

/// Keys and values of all layers for a fixed number of sequences, in GPU memory.
///
/// Keys and values each lie in as few buffers as the binding limit allows, `[layer, kv_head, slot, row]`: whole
/// layers to a buffer, or, where a layer is larger than a binding, some KV heads of one layer ([`Self::parts`]).
/// A slot is a token of a sequence: in a contiguous cache every sequence owns `capacity` slots; in a paged one it
/// owns pages of slots, which a table in GPU memory lists.
///
/// # Example
/// ```
/// use sunfleck::cache::{CacheShape, KvCache, PoolOptions};
/// use sunfleck::attention::Element;
/// # use sunfleck::{gpu::Gpu, wgpu};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// # let instance = wgpu::Instance::default();
/// # let adapter = instance.request_adapter(&Default::default()).await?;
/// # let (device, queue) = adapter.request_device(&Default::default()).await?;
/// # let gpu = Gpu::new(&device, &queue);
/// // 30 layers, 3 KV heads of 64, int8 with a scale for every 32 elements.
/// let shape = CacheShape::new(30, 3, 64, Element::Q8);
/// // Up to 4 sequences of up to 2,048 tokens share 128 pages of 16 tokens.
/// let pool = PoolOptions { page_tokens: 16, pages: 128 };
/// let cache = KvCache::paged(&gpu, shape, 4, 2048, pool)?;
/// assert_eq!(cache.bytes(), 128 * 16 * shape.token_bytes());
/// # Ok(())
/// # }
/// # pollster::block_on(example()).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct KvCache {
    shape: CacheShape,
    sequences: u32,
    capacity: u32,
    slots: u32, // of one head
    keys: Vec<Buffer>,
    values: Vec<Buffer>,
    spread: Spread,
    key_bytes: u64, // of one layer, aligned
    value_bytes: u64,
    paging: Option<Paging>,
}

/// How layers lie in buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spread {
    /// So many whole layers to a buffer; the last buffer may have fewer.
    Layers(u32),
    /// So many KV heads of one layer to a buffer; the last buffer of a layer may have fewer.
    Heads(u32),
}

/// Keys and values of some KV heads of one layer: what one binding holds.
#[derive(Clone, Debug)]
pub struct CachePart<'a> {
    /// KV heads.
    pub heads: Range<u32>,
    /// Their keys, `[kv_head, slot, row]`.
    pub keys: BufferView<'a>,
    /// Their values, `[kv_head, slot, row]`.
    pub values: BufferView<'a>,
}

/// A buffer of keys and one of values, and what both hold.
pub(super) struct CacheBuffers<'a> {
    pub keys: &'a Buffer,
    pub values: &'a Buffer,
    pub layers: u32,
    pub heads: u32, // of each layer
}

impl KvCache {
    /// A cache in which each of `sequences` sequences owns room for `capacity` tokens.
    ///
    /// # Errors
    /// [`CacheError::Zero`], [`CacheError::HeadDim`], [`CacheError::TooLarge`],
    /// [`CacheError::HeadTooLarge`], and the device's limits.
    pub fn contiguous(
        gpu: &Gpu,
        shape: CacheShape,
        sequences: u32,
        capacity: u32,
    ) -> Result<Self, CacheError> {
        let slots = u64::from(sequences) * u64::from(capacity);
        Self::new(gpu, shape, sequences, capacity, slots)
    }

    /// A cache in which `sequences` sequences of at most `capacity` tokens share the pages of a pool.
    /// Which pages are whose is kept by a [`Pager`](super::Pager).
    ///
    /// # Errors
    /// As [`Self::contiguous`], and [`CacheError::PageTokens`].
    pub fn paged(
        gpu: &Gpu,
        shape: CacheShape,
        sequences: u32,
        capacity: u32,
        pool: PoolOptions,
    ) -> Result<Self, CacheError> {
        let page_tokens = pool.page_tokens;
        if !page_tokens.is_power_of_two() || !(16..=256).contains(&page_tokens) {
            return Err(CacheError::PageTokens { page_tokens });
        }
        let slots = u64::from(pool.pages) * u64::from(page_tokens);
        let mut cache = Self::new(gpu, shape, sequences, capacity, slots)?;
        let table_stride = capacity.div_ceil(page_tokens);
        let entries = u64::from(table_stride) * u64::from(sequences);
        let limit = gpu.capabilities().limits.max_storage_buffer_binding_size;
        if entries > limit / 4 {
            return Err(CacheError::TooLarge {
                name: "entries of the page table",
                given: entries,
                most: limit / 4,
            });
        }
        cache.paging = Some(Paging {
            table: gpu.storage("page table", entries * 4)?,
            page_tokens,
            table_stride,
            pages: pool.pages,
        });
        Ok(cache)
    }

    fn new(
        gpu: &Gpu,
        shape: CacheShape,
        sequences: u32,
        capacity: u32,
        slots: u64,
    ) -> Result<Self, CacheError> {
        shape.check()?;
        for (name, size) in [
            ("sequences", u64::from(sequences)),
            ("capacity", u64::from(capacity)),
            ("pages", slots),
        ] {
            if size == 0 {
                return Err(CacheError::Zero { name });
            }
        }
        if sequences > 65_535 {
            return Err(CacheError::TooLarge {
                name: "sequences",
                given: sequences.into(),
                most: 65_535,
            });
        }
        // Kernels count in i32 where they compare positions.
        let most = i32::MAX as u64;
        if slots > most || u64::from(capacity) > most {
            return Err(CacheError::TooLarge {
                name: "tokens",
                given: slots.max(u64::from(capacity)),
                most,
            });
        }
        let head_bytes = [shape.key_row_bytes(), shape.value_row_bytes()].map(|row| row * slots);
        let [key_bytes, value_bytes] = head_bytes.map(|bytes| {
            let all = bytes.saturating_mul(u64::from(shape.kv_heads));
            all.checked_next_multiple_of(ALIGNMENT).unwrap_or(u64::MAX)
        });
        let limits = &gpu.capabilities().limits;
        let limit = (limits.max_storage_buffer_binding_size).min(limits.max_buffer_size);
        let fitting = |bytes: u64| u32::try_from(limit / bytes).unwrap_or(u32::MAX);
        let spread = match fitting(key_bytes.max(value_bytes)) {
            0 => {
                let needed = head_bytes[0].max(head_bytes[1]);
                let heads = fitting(needed);
                if heads == 0 {
                    return Err(CacheError::HeadTooLarge {
                        needed,
                        slots,
                        limit,
                    });
                }
                // Of the same size, as nearly as heads can be shared out.
                Spread::Heads(shape.kv_heads.div_ceil(shape.kv_heads.div_ceil(heads)))
            }
            layers => Spread::Layers(layers.min(shape.layers)),
        };
        let buffers = |label: &str, layer: u64, head: u64| -> Result<Vec<Buffer>, CacheError> {
            let sizes: Vec<u64> = match spread {
                Spread::Layers(most) => shares(shape.layers, most)
                    .map(|layers| layer * u64::from(layers))
                    .collect(),
                Spread::Heads(most) => (0..shape.layers)
                    .flat_map(|_| shares(shape.kv_heads, most))
                    .map(|heads| head * u64::from(heads))
                    .collect(),
            };
            let buffers = sizes.into_iter().map(|size| gpu.storage(label, size));
            Ok(buffers.collect::<Result<_, _>>()?)
        };
        Ok(Self {
            shape,
            sequences,
            capacity,
            slots: slots as u32,
            keys: buffers("keys", key_bytes, head_bytes[0])?,
            values: buffers("values", value_bytes, head_bytes[1])?,
            spread,
            key_bytes,
            value_bytes,
            paging: None,
        })
    }

    /// What the cache holds of each token.
    pub fn shape(&self) -> &CacheShape {
        &self.shape
    }

    /// Sequences it was made for.
    pub fn sequences(&self) -> u32 {
        self.sequences
    }

    /// Most tokens of one sequence.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// The pool, of a paged cache.
    pub fn pool(&self) -> Option<PoolOptions> {
        self.paging.as_ref().map(|paging| PoolOptions {
            page_tokens: paging.page_tokens,
            pages: paging.pages,
        })
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> u64 {
        (self.keys.iter().chain(&self.values))
            .map(Buffer::size)
            .sum()
    }

    /// The layout of each layer, for
    /// [`AttentionProblem::with_cache`](crate::attention::AttentionProblem::with_cache).
    pub fn layout(&self) -> CacheLayout {
        let shape = &self.shape;
        // In a pool a page is what a sequence is in a contiguous cache.
        let run = match &self.paging {
            Some(paging) => paging.page_tokens,
            None => self.capacity,
        };
        let layout = |element: crate::ops::Element, dim: u32| {
            let row = element.row_elements(dim);
            TensorLayout {
                element,
                batch_stride: run.saturating_mul(row),
                token_stride: row,
                head_stride: self.slots.saturating_mul(row),
            }
        };
        CacheLayout {
            key: layout(shape.key, shape.head_dim),
            value: layout(shape.value, shape.value_dim),
            pages: self.paging.as_ref().map(|paging| Pages {
                page_tokens: paging.page_tokens,
                pool_pages: paging.pages,
                table_stride: paging.table_stride,
                first_page: 0,
                first_sequence: 0,
            }),
        }
    }

    /// Keys and values of a layer: one part, or where the layer is larger than a binding several, of
    /// neighbouring KV heads. Nothing past the last layer.
    pub fn parts(&self, layer: u32) -> Vec<CachePart<'_>> {
        if layer >= self.shape.layers {
            return Vec::new();
        }
        let heads = self.shape.kv_heads;
        match self.spread {
            Spread::Layers(per_buffer) => {
                let index = (layer / per_buffer) as usize;
                let place = u64::from(layer % per_buffer);
                let view = |buffer, bytes| BufferView::range(buffer, place * bytes, bytes);
                (self.keys.get(index).zip(self.values.get(index)))
                    .map(|(keys, values)| CachePart {
                        heads: 0..heads,
                        keys: view(keys, self.key_bytes),
                        values: view(values, self.value_bytes),
                    })
                    .into_iter()
                    .collect()
            }
            Spread::Heads(per_buffer) => {
                let first = (layer * heads.div_ceil(per_buffer)) as usize;
                let starts = (0..heads).step_by(per_buffer as usize);
                let buffers = self.keys.iter().zip(&self.values).skip(first);
                (starts.zip(buffers))
                    .map(|(start, (keys, values))| CachePart {
                        heads: start..heads.min(start + per_buffer),
                        keys: BufferView::whole(keys),
                        values: BufferView::whole(values),
                    })
                    .collect()
            }
        }
    }

    /// Keys of a layer that lies in one piece; `None` past the last one, and where a layer is larger than a
    /// binding: see [`Self::parts`].
    pub fn keys(&self, layer: u32) -> Option<BufferView<'_>> {
        self.whole(layer).map(|part| part.keys)
    }

    /// Values of a layer, as [`Self::keys`].
    pub fn values(&self, layer: u32) -> Option<BufferView<'_>> {
        self.whole(layer).map(|part| part.values)
    }

    fn whole(&self, layer: u32) -> Option<CachePart<'_>> {
        let mut parts = self.parts(layer);
        parts.pop().filter(|_| parts.is_empty())
    }

    /// The page table `[sequence, page]` of u32, of a paged cache.
    pub fn page_table(&self) -> Option<BufferView<'_>> {
        (self.paging.as_ref()).map(|paging| BufferView::whole(&paging.table))
    }

    /// The buffers, those with keys and values of the same layers and heads together.
    pub(super) fn buffers(&self) -> Vec<CacheBuffers<'_>> {
        let (layers, heads) = (self.shape.layers, self.shape.kv_heads);
        let holds: Vec<(u32, u32)> = match self.spread {
            Spread::Layers(most) => shares(layers, most).map(|layers| (layers, heads)).collect(),
            Spread::Heads(most) => (0..layers)
                .flat_map(|_| shares(heads, most))
                .map(|heads| (1, heads))
                .collect(),
        };
        (self.keys.iter().zip(&self.values).zip(holds))
            .map(|((keys, values), (layers, heads))| CacheBuffers {
                keys,
                values,
                layers,
                heads,
            })
            .collect()
    }

    /// Where slots lie, for kernels that count rows in units of `unit` bytes.
    pub(super) fn places(&self, unit: u64) -> Places {
        let paging = self.paging.as_ref();
        let units = |bytes: u64| (bytes / unit) as u32;
        Places {
            slots: self.slots,
            capacity: self.capacity,
            page_shift: paging.map_or(0, |paging| paging.page_tokens.trailing_zeros()),
            table_stride: paging.map_or(0, |paging| paging.table_stride),
            key_row: units(self.shape.key_row_bytes()),
            value_row: units(self.shape.value_row_bytes()),
            key_layer: units(self.key_bytes),
            value_layer: units(self.value_bytes),
        }
    }
}

/// `count` things in shares of at most `most`.
fn shares(count: u32, most: u32) -> impl Iterator<Item = u32> {
    let starts = (0..count).step_by(most.max(1) as usize);
    starts.map(move |start| most.min(count - start))
}

/// Where slots lie, as kernels count.
pub(super) struct Places {
    pub slots: u32, // of one head
    pub capacity: u32,
    pub page_shift: u32,
    pub table_stride: u32,
    pub key_row: u32, // units
    pub value_row: u32,
    pub key_layer: u32,
    pub value_layer: u32,
}
