//! Keeping the accepted part of a draft, on the GPU.

use wgpu::{Buffer, ComputePass};

use super::{CacheError, ContiguousCache};
use crate::{
    gpu::{Binding, BufferView, Gpu, Kernel, shader, shared_struct},
    ops::{Dispatch, StepBuffer},
};

const BINDINGS: &[Binding] = &[
    Binding::Uniform,
    Binding::Read,
    Binding::Read,
    Binding::Write,
];

shared_struct! {
    /// Parameters shared with `shaders/cache/commit.wgsl`.
    pub(crate) struct CommitParams {
        lanes: u32,
        quads: u32,
        capacity: u32,
        max_nodes: u32,
    }
}

const LANES: u32 = 64;

pub(crate) fn kernel() -> Kernel {
    Kernel::new(
        "cache/commit",
        [LANES, 1, 1],
        CommitParams::LAYOUT,
        BINDINGS,
    )
    .source(shader!("cache/commit.wgsl"))
}

/// Moves the keys and values of accepted nodes to where committed ones belong, in all layers.
/// A draft that is a chain needs no commit: its accepted nodes already lie there.
#[derive(Clone, Debug)]
pub struct Commit(Vec<(Dispatch, [u32; 2])>);

impl Commit {
    /// Compiles and binds: `outcome` is the verification's output for trees of at most
    /// `max_nodes` nodes.
    ///
    /// # Errors
    /// [`CacheError::Gpu`].
    pub async fn new(
        gpu: &Gpu,
        cache: &ContiguousCache,
        step: &StepBuffer,
        outcome: &Buffer,
        max_nodes: u32,
    ) -> Result<Self, CacheError> {
        let pipeline = gpu.pipeline(&kernel()).await?;
        let slot_quads = cache.slot_quads();
        let mut dispatches = Vec::new();
        for segment in cache.segments() {
            let slots = segment.size() / 16 / u64::from(slot_quads);
            let heads = (slots / u64::from(cache.shape().capacity)) as u32;
            let params = CommitParams {
                lanes: heads * slot_quads,
                quads: slot_quads,
                capacity: cache.shape().capacity,
                max_nodes,
            };
            let uniform = gpu.uniform(&pipeline.name, &params);
            let arguments = gpu.bind(
                &pipeline,
                &[
                    ("params", BufferView::whole(&uniform)),
                    ("step", step.view()),
                    ("outcome", BufferView::whole(outcome)),
                    ("cache", BufferView::whole(segment)),
                ],
            )?;
            let limit = gpu
                .capabilities()
                .limits
                .max_compute_workgroups_per_dimension;
            let groups = crate::ops::spread(params.lanes.div_ceil(LANES), limit);
            dispatches.push((Dispatch::new(pipeline.clone(), arguments), groups));
        }
        Ok(Self(dispatches))
    }

    /// Records the commit; it must come after the verification and before
    /// [`GreedyVerifier::encode_finish`](crate::verify::GreedyVerifier::encode_finish), which
    /// moves the length on.
    pub fn encode(&self, pass: &mut ComputePass<'_>) {
        for (dispatch, [x, y]) in &self.0 {
            dispatch.encode(pass, [*x, *y, 1]);
        }
    }
}
