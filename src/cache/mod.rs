//! Where keys and values live: contiguous or in pages, as floats or quantised.
//!
//! A [`KvCache`] is GPU memory for the keys and values of some sequences. [`Append`] rotates the keys of a
//! step's rows, converts or quantises them, and writes them; attention reads them in place
//! ([`AttentionProblem::with_cache`](crate::attention::AttentionProblem::with_cache)); [`Commit`] keeps the
//! accepted part of a draft. All take their lengths from a buffer on the GPU.
//!
//! A paged cache is shared by sequences that grow, fork, roll back and evict. The [`Pager`] keeps its
//! accounts on the host: which page is whose, and which must be copied ([`PageCopies`]) before a sequence
//! that shares it goes on.
//!
//! | element | bytes a token and head of 64 | error of a value |
//! |---|---|---|
//! | f32 | 256 | none |
//! | f16 | 128 | 2^-11 of it; numbers beyond 65,504 are cut |
//! | bf16 | 128 | 2^-8 of it; numbers beyond 3.39e38 are cut |
//! | q8 | 68 | 1/254 of the largest magnitude of its block of 32, plus the rounding of the scale to f16 |
//! | q4 | 36 | 1/16 of it; up to 1/8 for values opposite in sign to the largest |
//!
//! The bounds are those of [`reference::quantised`](crate::reference::quantised), and tested.

mod append;
mod commit;
#[cfg(feature = "generate")]
mod contents;
mod copies;
mod error;
mod kv_cache;
mod pager;
mod shape;
#[cfg(test)]
mod tests;

pub use append::{Append, AppendIo, AppendShape, RopePairs, RopeShape};
pub use commit::Commit;
pub use copies::PageCopies;
pub use error::CacheError;
pub use kv_cache::{CacheLayout, CachePart, KvCache, PoolOptions};
pub use pager::{NO_PAGE, PageCopy, Pager, SequenceId, moved_pages};
pub use shape::CacheShape;

use crate::{gpu::Kernel, ops::Element};

/// Every variant of the cache kernels, for a head size of 64 where rotation is a constant: see
/// [`crate::variants`].
pub(crate) fn variants() -> Vec<Kernel> {
    let mut kernels = vec![commit::remap_kernel()];
    for paged in [false, true] {
        kernels.extend([1, 2, 4].map(|words| commit::kernel(words, paged)));
        for pairs in RopePairs::ALL {
            for (key, value, hadamard) in Element::ALL
                .into_iter()
                .map(|element| {
                    (
                        element,
                        element,
                        if element.is_quantised() { 64 } else { 1 },
                    )
                })
                .chain([
                    (Element::F16, Element::Q4, 1),
                    (Element::Q8, Element::Q4, 32),
                    (Element::F16, Element::F16, 128),
                ])
            {
                kernels.push(append::kernel(&append::Variant {
                    key,
                    value,
                    hadamard,
                    pairs,
                    paged,
                }));
            }
        }
    }
    kernels.extend([1, 2, 4].map(copies::kernel));
    kernels
}
