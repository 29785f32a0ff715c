//! Portable WebGPU kernels for attention and draft-tree verification, and speculative text
//! generation on them.

pub mod attention;
pub mod cache;
#[cfg(feature = "generate")]
pub mod draft;
#[cfg(feature = "generate")]
pub mod generate;
pub mod gpu;
#[cfg(feature = "generate")]
pub mod model;
pub mod ops;
pub mod reference;
pub mod tree;
pub mod variants;
pub mod verify;

pub use wgpu;
