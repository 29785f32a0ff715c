//! Tiled online-softmax attention: problem, plan, encode.

mod error;
mod kernels;
mod plan;
mod problem;

pub use error::AttentionError;
pub use plan::{
    Attention, AttentionIo, AttentionPlan, AttentionWorkspace, PreparedAttention, lengths,
};
pub use problem::{AttentionProblem, Element, Mask, TensorLayout};

/// What the GPU writes as the LSE of a row that sees no key, in place of -inf. Its output is 0.
pub const NO_KEY: f32 = -1e30;

/// Variants for a spread of problems: see [`crate::variants`].
pub(crate) fn variants(capabilities: &crate::gpu::Capabilities) -> Vec<crate::gpu::Kernel> {
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
                kernels.extend([3, 8].map(|rows| kernels::decode(capabilities, &problem, rows)));
                kernels.push(kernels::merge(&problem));
                kernels.push(kernels::prefill(&problem));
            }
        }
    }
    kernels.sort_by(|a, b| a.name.cmp(&b.name));
    kernels.dedup_by(|a, b| a.name == b.name);
    kernels
}
