//! Attention on the caller's device: `softmax(scale Q K^T) V` over tiles of keys, with the online
//! softmax, so that scores are never stored (Milakov and Gimelshein 2018; FlashAttention, Dao et al.
//! 2022).
//!
//! # Overview
//! | step | gives | what happens |
//! |---|---|---|
//! | fill in an [`AttentionProblem`] | | shapes, storage types, mask and extras |
//! | [`Gpu::plan_attention`] | [`AttentionPlan`] | kernels are chosen, shapes and limits checked |
//! | [`AttentionPlan::prepare`] | [`PreparedAttention`] | the kernels are compiled, once a device |
//! | [`PreparedAttention::bind`] | [`Attention`] | buffers of the caller, and a workspace that calls share |
//! | [`Attention::encode`] | | records into the caller's pass; nothing is allocated, submitted or waited for |
//!
//! How many queries and keys a call has lies in a buffer on the GPU ([`lengths`], [`ragged_lengths`]), so
//! a bound call serves every step of a growing cache. States over disjoint sets of keys are merged
//! by [`MergeStates`]. The [`walkthrough`] goes through the kernels with numbers.
//!
//! Everything that a call needs is in this module and in [`gpu`](crate::gpu). Elements of 16 bits are the
//! caller's to make, with the crate `half` for instance.
//!
//! [`Gpu::plan_attention`]: crate::gpu::Gpu::plan_attention
//!
//! # Example
//! Four causal queries at the end of 300 keys, two query heads on each of two KV heads of 32, compared
//! with the f64 reference.
//!
//! ```
//! use sunfleck::attention::{AttentionIo, AttentionProblem, lengths};
//! use sunfleck::{gpu::Gpu, reference, wgpu};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let instance = wgpu::Instance::default();
//! let adapter = instance.request_adapter(&Default::default()).await?;
//! let (device, queue) = adapter.request_device(&Default::default()).await?;
//! let gpu = Gpu::new(&device, &queue);
//!
//! let (heads, kv_heads, dim, queries, keys) = (4, 2, 32, 4, 300);
//! let problem = AttentionProblem::new(heads, kv_heads, dim, queries, keys);
//! let attention = gpu.plan_attention(&problem)?.prepare().await?;
//!
//! let numbers = |count: u32, step: f32| -> Vec<f32> {
//!     (0..count).map(|i| (i as f32 * step).sin()).collect()
//! };
//! let q = numbers(queries * heads * dim, 0.37); // [query, head, dim]
//! let k = numbers(keys * kv_heads * dim, 0.71); // [key, kv_head, dim]
//! let v = numbers(keys * kv_heads * dim, 0.13);
//! let query = gpu.storage_with("query", &q)?;
//! let key = gpu.storage_with("key", &k)?;
//! let value = gpu.storage_with("value", &v)?;
//! let output = gpu.storage("output", u64::from(queries * heads * dim) * 4)?;
//! let lengths = gpu.storage_with("lengths", &lengths(&[(queries, keys)]))?;
//! let workspace = attention.workspace()?;
//! let call = attention.bind(&workspace, &AttentionIo {
//!     query: (&query).into(),
//!     key: (&key).into(),
//!     value: (&value).into(),
//!     output: (&output).into(),
//!     lengths: (&lengths).into(),
//!     lse: None,
//!     bias: None,
//!     tree: None,
//!     pages: None,
//! })?;
//!
//! let mut encoder = device.create_command_encoder(&Default::default());
//! call.encode(&mut encoder.begin_compute_pass(&Default::default()), queries, keys);
//! queue.submit([encoder.finish()]);
//!
//! let result: Vec<f32> = gpu.read_buffer(&output).await?;
//! let shape = reference::attention::AttentionShape {
//!     batch: 1,
//!     query_heads: 4,
//!     kv_heads: 2,
//!     queries: 4,
//!     keys: 300,
//!     head_dim: 32,
//!     value_dim: 32,
//! };
//! let options = reference::attention::AttentionOptions {
//!     mask: reference::attention::Mask::Causal,
//!     ..Default::default()
//! };
//! let expected = reference::attention::attention(&shape, &q, &k, &v, &options)?.output;
//! reference::compare::compare("output", &result, &expected, reference::compare::Tolerance::F32)?;
//! # Ok(())
//! # }
//! # pollster::block_on(example()).unwrap();
//! ```

mod cached;
mod call;
mod cascade;
mod error;
mod kernels;
mod merge_states;
mod plan;
mod probe;
mod problem;
mod tile;

pub use cached::CacheIo;
pub use call::{
    Attention, AttentionIo, AttentionWorkspace, PreparedAttention, lengths, ragged_lengths,
};
pub use cascade::{Cascade, CascadePlan, PreparedCascade, SharedPrefix};
pub use error::AttentionError;
pub use merge_states::{MergeStates, MergeStatesIo, MergeStatesProblem, PreparedMergeStates};
pub use plan::AttentionPlan;
pub use problem::{AttentionProblem, BiasLayout, Mask, RaggedTotals};

pub use crate::ops::{Element, Pages, QUANT_BLOCK, TensorLayout};

// The tree mask is made from one: no other module is needed for attention.
#[doc(inline)]
pub use crate::tree::{DraftTree, TreeError};

#[cfg(any(doc, doctest, test))]
pub mod walkthrough;

use crate::gpu::{Capabilities, Kernel};

/// What the GPU writes as the LSE of a row that sees no key, in place of -inf. Its output is 0.
pub const NO_KEY: f32 = -1e30;

/// Variants for a spread of problems: see [`crate::variants`].
pub(crate) fn variants(capabilities: &Capabilities) -> Vec<Kernel> {
    let mut kernels = Vec::new();
    for (head_dim, value_dim) in [
        (4, 4),
        (40, 40),
        (64, 64),
        (80, 20),
        (128, 128),
        (192, 128),
        (96, 200),
        (256, 256),
    ] {
        for element in Element::ALL {
            for (mask, lse) in [
                (Mask::None, false),
                (Mask::Causal, true),
                (Mask::Tree { max_nodes: 64 }, false),
                (Mask::TreeEnd { max_nodes: 64 }, false),
            ] {
                let mut problem = AttentionProblem::new(12, 4, head_dim, 64, 1024);
                problem.value_dim = value_dim;
                for tensor in [&mut problem.key, &mut problem.value] {
                    tensor.element = element;
                }
                if !element.is_quantised() {
                    problem.query.element = element;
                    problem.output.element = element;
                }
                problem.mask = mask;
                problem.lse = lse;
                kernels.extend(all(capabilities, &problem));
            }
        }
    }
    for element in Element::FLOATS {
        kernels.push(merge_states::kernel(64, element));
    }
    // Pages, whose size is a constant.
    for (page_tokens, element) in [(16, Element::F32), (64, Element::F16), (256, Element::Q4)] {
        for (mask, lse) in [
            (Mask::Causal, true),
            (Mask::None, true),
            (Mask::Tree { max_nodes: 64 }, false),
            (Mask::TreeEnd { max_nodes: 64 }, false),
        ] {
            let mut problem = AttentionProblem::new(12, 4, 64, 64, 1024);
            problem.key.element = element;
            problem.value.element = element;
            if element == Element::F16 {
                problem.query.element = element;
            }
            problem.mask = mask;
            problem.lse = lse;
            problem.pages = Some(Pages {
                page_tokens,
                pool_pages: 100,
                table_stride: 64,
                first_page: 0,
                first_sequence: 0,
            });
            kernels.push(kernels::merge_prefix(&problem));
            kernels.extend(all(capabilities, &problem));
        }
    }
    // Everything on top, with each mask.
    for mask in [
        Mask::None,
        Mask::Causal,
        Mask::Tree { max_nodes: 64 },
        Mask::TreeEnd { max_nodes: 64 },
    ] {
        let mut problem = AttentionProblem::new(12, 4, 64, 64, 1024);
        problem.mask = mask;
        problem.window = Some(100);
        problem.softcap = Some(50.0);
        kernels.extend(all(capabilities, &problem));
        problem.alibi_slopes = Some(vec![0.5; 12]);
        problem.sinks = Some(vec![0.5; 12]);
        kernels.extend(all(capabilities, &problem));
        problem.bias = Some(BiasLayout::default());
        kernels.extend(all(capabilities, &problem));
    }
    kernels.sort_by(|a, b| a.name.cmp(&b.name));
    kernels.dedup_by(|a, b| a.name == b.name);
    kernels
}

fn all(capabilities: &Capabilities, problem: &AttentionProblem) -> Vec<Kernel> {
    let mut kernels = vec![kernels::merge(problem)];
    for (tile, refusal) in tile::DecodeTile::candidates(capabilities, problem) {
        if refusal.is_none() {
            let rows = match tile {
                tile::DecodeTile::Cooperative { .. } => [16, 32],
                _ => [3, 8],
            };
            kernels.extend(rows.map(|rows| kernels::decode(tile, problem, rows)));
        }
    }
    for (tile, refusal) in tile::PrefillTile::candidates(capabilities, problem) {
        if refusal.is_none() {
            kernels.push(kernels::prefill(tile, problem));
        }
    }
    kernels
}
