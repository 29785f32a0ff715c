//! Why a cache is refused, or an operation on it.

use crate::gpu::GpuError;

/// An error of making or using a cache.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// A size is zero.
    #[error("`{name}` is 0; every size of a cache must be at least 1")]
    Zero {
        /// The size.
        name: &'static str,
    },
    /// A head size no kernel supports.
    #[error("`{name}` is {dim}; it must be a multiple of 4 from 4 to 256")]
    HeadDim {
        /// The field.
        name: &'static str,
        /// Its value.
        dim: u32,
    },
    /// A page size no kernel supports.
    #[error("pages have {page_tokens} tokens; it must be a power of 2 from 16 to 256")]
    PageTokens {
        /// Tokens of a page given.
        page_tokens: u32,
    },
    /// The keys, or values, of one KV head of one layer do not fit one binding. A layer is spread over buffers
    /// by KV heads, no further.
    #[error(
        "the keys or values of one KV head take {needed} bytes a layer ({slots} tokens), but the device binds \
         at most {limit}; create it with a larger `max_storage_buffer_binding_size` and `max_buffer_size`, or \
         lower the capacity, or store f16, q8 or q4"
    )]
    HeadTooLarge {
        /// Bytes of a head's keys or values in one layer.
        needed: u64,
        /// Tokens the cache has room for.
        slots: u64,
        /// The smaller of the device's limits.
        limit: u64,
    },
    /// More tokens or pages than kernels can count.
    #[error("`{name}` is {given}, but kernels count up to {most}; make the cache smaller")]
    TooLarge {
        /// The size.
        name: &'static str,
        /// What was given.
        given: u64,
        /// The most there can be.
        most: u64,
    },
    /// There are no free pages for what was asked. Nothing was changed.
    #[error(
        "{needed} more pages of {page_tokens} tokens are needed, but {free} of {pages} are free; free or \
         truncate a sequence, or make the pool larger"
    )]
    OutOfPages {
        /// Pages needed.
        needed: u32,
        /// Pages that are free.
        free: u32,
        /// Pages of the pool.
        pages: u32,
        /// Tokens of a page.
        page_tokens: u32,
    },
    /// All places for sequences are taken. Nothing was changed.
    #[error("all {sequences} sequences of the cache are in use; free one, or make it for more")]
    OutOfSequences {
        /// Sequences the cache was made for.
        sequences: u32,
    },
    /// A sequence would pass its capacity. Nothing was changed.
    #[error(
        "the sequence would have {needed} tokens, but it has room for {capacity}; truncate it, or evict \
         what is far back"
    )]
    SequenceFull {
        /// Tokens the sequence would have.
        needed: u64,
        /// Tokens it has room for.
        capacity: u32,
    },
    /// A handle to a sequence that was freed, or of another cache.
    #[error(
        "sequence {slot} (generation {generation}) does not exist: it was freed, or is of another cache"
    )]
    NoSequence {
        /// Row of the page table.
        slot: u32,
        /// How often the row had been given out.
        generation: u32,
    },
    /// A length beyond what the sequence has.
    #[error("the sequence has {len} tokens, so it can't be cut to {given}")]
    Length {
        /// Its length.
        len: u32,
        /// What was given.
        given: u32,
    },
    /// An accepted path that is no path of the reserved tokens.
    #[error(
        "the path {path:?} can't be committed: nodes start with 0, ascend, and are below {reserved}, what \
         was reserved"
    )]
    Path {
        /// The path given.
        path: Vec<u32>,
        /// Tokens reserved after the committed ones.
        reserved: u32,
    },
    /// A cache without pages, where pages are needed.
    #[error("the cache has no pages; make it with `KvCache::paged`")]
    NotPaged,
    /// The rotation and the cache disagree, or the buffers of an append.
    #[error("`{name}` is {given}, but {needed}")]
    Mismatch {
        /// What disagrees.
        name: &'static str,
        /// What was given.
        given: u64,
        /// What was needed.
        needed: String,
    },
    /// The device refused a buffer or kernel.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}
