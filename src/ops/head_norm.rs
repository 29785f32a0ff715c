//! RMSNorm of query and key heads (QK-norm: Henry et al. 2020, as Qwen3 has it).

use wgpu::ComputePass;

use super::{Dispatch, StepBuffer};
use crate::gpu::{Binding, BufferView, Gpu, GpuError, Kernel, shader, shared_struct};

const BINDINGS: &[Binding] = &[
    Binding::Uniform,
    Binding::Read,
    Binding::Read,
    Binding::Read,
    Binding::Write,
];

shared_struct! {
    /// Parameters shared with `shaders/ops/head_norm.wgsl`.
    pub(crate) struct HeadNormParams {
        head_dim: u32,
        query_heads: u32,
        stride: u32,
        epsilon: f32,
    }
}

/// Invocations a head: enough for heads of up to 256 elements, few enough for the fixed-order sum.
const LANES: u32 = 32;

pub(crate) fn kernel() -> Kernel {
    let params = HeadNormParams::LAYOUT;
    Kernel::new("ops/head_norm", [LANES, 1, 1], params, BINDINGS)
        .source(shader!("ops/head_norm.wgsl"))
        .workgroup_bytes(u64::from(LANES) * 4)
}

/// The heads of a norm and their buffers.
#[derive(Clone, Copy, Debug)]
pub struct HeadNormIo<'a> {
    /// `[row, query_heads + key_heads, head_dim]`, f32, normalised in place; a row may have more after
    /// these heads.
    pub x: BufferView<'a>,
    /// f32s from one row to the next.
    pub stride: u32,
    /// Heads that `query_weight` is for.
    pub query_heads: u32,
    /// Heads after them that `key_weight` is for.
    pub key_heads: u32,
    /// Elements of a head.
    pub head_dim: u32,
    /// `[head_dim]`, f32.
    pub query_weight: BufferView<'a>,
    /// `[head_dim]`, f32.
    pub key_weight: BufferView<'a>,
}

/// Each head divided by its root mean square and multiplied with a weight, bound to its buffers.
#[derive(Clone, Debug)]
pub struct HeadNorm {
    dispatch: Dispatch,
    heads: u32,
}

impl HeadNorm {
    /// Compiles and binds.
    ///
    /// # Errors
    /// [`GpuError::Compile`], and the errors of a bad view.
    pub async fn new(
        gpu: &Gpu,
        step: &StepBuffer,
        io: &HeadNormIo<'_>,
        epsilon: f32,
    ) -> Result<Self, GpuError> {
        let pipeline = gpu.pipeline(&kernel()).await?;
        let params = HeadNormParams {
            head_dim: io.head_dim,
            query_heads: io.query_heads,
            stride: io.stride,
            epsilon,
        };
        let uniform = gpu.uniform(&pipeline.name, &params);
        let views = [
            ("params", BufferView::whole(&uniform)),
            ("step", step.view()),
            ("query weight", io.query_weight),
            ("key weight", io.key_weight),
            ("x", io.x),
        ];
        let arguments = gpu.bind(&pipeline, &views)?;
        Ok(Self {
            dispatch: Dispatch::new(pipeline, arguments),
            heads: io.query_heads + io.key_heads,
        })
    }

    /// Records exactly `rows` rows.
    pub fn encode(&self, pass: &mut ComputePass<'_>, rows: u32) {
        self.dispatch.encode(pass, [self.heads, rows, 1]);
    }
}
