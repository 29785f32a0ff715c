//! Largest logit of each row: first pass, one candidate a block of the vocabulary.

use wgpu::ComputePass;

use super::{Dispatch, StepBuffer};
use crate::gpu::{Binding, BufferView, Gpu, GpuError, Kernel, shader, shared_struct};

const BINDINGS: &[Binding] = &[
    Binding::Uniform,
    Binding::Read,
    Binding::Read,
    Binding::Write,
];

shared_struct! {
    /// Parameters shared with `shaders/ops/argmax.wgsl`.
    pub(crate) struct ArgmaxParams {
        vocabulary: u32,
        stride: u32,
        block: u32,
        blocks: u32,
    }
}

const LANES: u32 = 64;

pub(crate) fn kernel() -> Kernel {
    Kernel::new("ops/argmax", [LANES, 1, 1], ArgmaxParams::LAYOUT, BINDINGS)
        .source(shader!("ops/argmax.wgsl"))
        .workgroup_bytes(u64::from(LANES) * 8)
}

/// The best candidate of each block of each row, bound to its buffers.
#[derive(Clone, Debug)]
pub struct Argmax {
    dispatch: Dispatch,
    blocks: u32,
}

impl Argmax {
    /// Logits of one block.
    pub const BLOCK: u32 = 4096;
    /// Bytes of one candidate: f32 value, u32 token.
    pub const CANDIDATE_BYTES: u64 = 8;

    /// Blocks of a row of `vocabulary` logits.
    pub fn blocks(vocabulary: u32) -> u32 {
        vocabulary.div_ceil(Self::BLOCK)
    }

    /// Compiles and binds: `logits` is `[row, vocabulary]` of f32, `candidates` is
    /// `[row, block]` of (f32 value, u32 token).
    ///
    /// # Errors
    /// [`GpuError::Compile`], and the errors of a bad view.
    pub async fn new(
        gpu: &Gpu,
        vocabulary: u32,
        step: &StepBuffer,
        logits: BufferView<'_>,
        candidates: BufferView<'_>,
    ) -> Result<Self, GpuError> {
        let pipeline = gpu.pipeline(&kernel()).await?;
        let blocks = Self::blocks(vocabulary);
        let params = ArgmaxParams {
            vocabulary,
            stride: vocabulary,
            block: Self::BLOCK,
            blocks,
        };
        let uniform = gpu.uniform(&pipeline.name, &params);
        let arguments = gpu.bind(
            &pipeline,
            &[
                ("params", BufferView::whole(&uniform)),
                ("step", step.view()),
                ("logits", logits),
                ("candidates", candidates),
            ],
        )?;
        Ok(Self {
            dispatch: Dispatch::new(pipeline, arguments),
            blocks,
        })
    }

    /// Records the pass over `rows` rows.
    pub fn encode(&self, pass: &mut ComputePass<'_>, rows: u32) {
        self.dispatch.encode(pass, [self.blocks, rows, 1]);
    }
}
