//! What a draft tree is: nodes, masks and depths, the builders, and its layout in GPU memory.
//!
//! A [`DraftTree`] holds the tokens that a drafter proposes after the last committed token. Node 0 is
//! that last committed token; every path from it is one possible continuation. A chain is a tree with
//! one child a node. One forward pass of the target model over all nodes, each of which sees its
//! ancestors only, gives what verification needs (Miao et al. 2023, SpecInfer, section 4.1).
//!
//! ```
//! use sunfleck::tree::DraftTree;
//!
//! // Two guesses after token 7 that share their first token.
//! let tree = DraftTree::merge(7, &[vec![1, 2], vec![1, 3]], 16)?;
//! assert_eq!(tree.tokens(), [7, 1, 2, 3]);
//! assert_eq!(tree.depths(), [0, 1, 2, 2]);
//! assert_eq!(tree.path_to(3), Some(vec![0, 1, 3]));
//! assert_eq!(tree.to_text(|token| token.to_string()), "7\n└─ 1\n   ├─ 2\n   └─ 3\n");
//! # Ok::<(), sunfleck::tree::TreeError>(())
//! ```
//!
//! | builder | of |
//! |---|---|
//! | [`DraftTree::chain`] | one continuation |
//! | [`DraftTree::from_parents`] | anything |
//! | [`DraftTree::from_paths`] | Medusa's choices, and the shape of [`OptimalShape::paths`] |
//! | [`DraftTree::merge`] | several continuations, as n-gram look-up finds: a trie |
//! | [`DynamicTree`] | a draft model's likeliest continuations, level by level on the GPU |
//! | [`FixedTree`] | Medusa's choices, on the GPU |
//! | [`SampledTree`] | tokens drawn by chance from a draft model, independently or without replacement, on the GPU |
//! | [`OptimalShape`] | a shape from acceptance rates ([`AcceptanceRates`]) and measured costs |

mod acceptance;
mod blob;
mod build;
mod build_error;
mod draft_tree;
mod drawing;
mod dynamic;
mod error;
mod fixed;
mod on_gpu;
mod optimal;
mod sampled;
mod svg;
mod top_k;

pub use acceptance::AcceptanceRates;
pub use blob::{BlobField, ancestor_words, ancestors_offset, blob_words, field_offset};
pub use build_error::TreeBuildError;
pub use draft_tree::{Children, DraftTree, DrawKind, MAX_NODES, NONE};
pub use drawing::TreeDrawing;
pub use dynamic::{DynamicTree, DynamicTreeIo, DynamicTreeShape};
pub use error::TreeError;
pub use fixed::{FixedTree, FixedTreeIo};
pub use on_gpu::MAX_BUILT_NODES;
pub(crate) use on_gpu::variants;
pub use optimal::{MAX_PLANNED_DEPTH, MAX_PLANNED_NODES, OptimalShape, ShapeError};
pub use sampled::{DraftSampling, SampledTree, SampledTreeIo, SampledTreeShape};
pub use top_k::{MAX_TOP_K, TokenMap, TopK, TopKShape};

#[cfg(test)]
mod tests;
