//! Tiled online-softmax attention: problem, plan, encode.

mod call;
mod error;
mod kernels;
mod merge_states;
mod plan;
mod problem;
mod tile;

pub use call::{
    Attention, AttentionIo, AttentionWorkspace, PreparedAttention, lengths, ragged_lengths,
};
pub use error::AttentionError;
pub use merge_states::{MergeStates, MergeStatesIo, MergeStatesProblem, PreparedMergeStates};
pub use plan::AttentionPlan;
pub use problem::{AttentionProblem, BiasLayout, Element, Mask, RaggedTotals, TensorLayout};

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
        (256, 256),
    ] {
        for element in Element::ALL {
            for (mask, lse) in [
                (Mask::None, false),
                (Mask::Causal, true),
                (Mask::Tree { max_nodes: 64 }, false),
            ] {
                let mut problem = AttentionProblem::new(12, 4, head_dim, 64, 1024);
                problem.value_dim = value_dim;
                for tensor in [
                    &mut problem.query,
                    &mut problem.key,
                    &mut problem.value,
                    &mut problem.output,
                ] {
                    tensor.element = element;
                }
                problem.mask = mask;
                problem.lse = lse;
                kernels.extend(all(capabilities, &problem));
            }
        }
    }
    for element in Element::ALL {
        kernels.push(merge_states::kernel(64, element));
    }
    // Everything on top, with each mask.
    for mask in [Mask::None, Mask::Causal, Mask::Tree { max_nodes: 64 }] {
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
    for (tile, refusal) in tile::DecodeTile::candidates(capabilities) {
        if refusal.is_none() {
            kernels.extend([3, 8].map(|rows| kernels::decode(tile, problem, rows)));
        }
    }
    for (tile, refusal) in tile::PrefillTile::candidates(capabilities, problem) {
        if refusal.is_none() {
            kernels.push(kernels::prefill(tile, problem));
        }
    }
    kernels
}
