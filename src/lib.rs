//! Portable WebGPU kernels for attention and draft-tree verification, and speculative text
//! generation on them.
//!
//! # Overview
//! - [`attention`]: tiled online-softmax attention as problem, plan, prepare, bind, encode, on the
//!   caller's device, buffers and pass; its [`walkthrough`](attention::walkthrough) has drawings.
//! - [`tree`] and [`verify`]: draft trees, and which of their tokens are kept; one tree with numbers in [`verify::walkthrough`].
//! - [`cache`]: where keys and values live: contiguous or paged, floats or quantised; append and commit.
//! - [`ops`]: the other kernels of a decoder, among them linear layers on quantised weights.
//! - [`gpu`]: the caller's device and what the kernels may use of it.
//! - [`mod@reference`]: the same mathematics on the CPU in f64.
//!
//! # Why use this crate, and when not
//! Use it for attention, or for speculative decoding, in a wgpu program that has to run on any
//! adapter: the kernels need no optional feature, and a drafted chain is checked with the bits that
//! decoding would have given. On one vendor's GPUs only, that vendor's own libraries are faster.
//!
//! # Features
//! - `vulkan`, `metal`, `dx12`, `webgpu` (default), `gles`: wgpu's backends.
//! - `static-dxc`: HLSL compiled by a statically linked DXC.
//! - `generate`: models from GGUF files, drafters and sessions (`model`, `draft`, `generate`).
//! - `grammar`: with it, answers restricted by regular expressions and JSON schemas.
//! - `cli`: the program `sunfleck`.

// docs.rs marks what needs a feature.
#![cfg_attr(docsrs, feature(doc_cfg))]

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

/// The example of the page on caches, compiled as a doc test.
#[cfg(doctest)]
#[doc = include_str!("../docs/caches.md")]
struct Caches;

/// The README's example, compiled as a doc test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
