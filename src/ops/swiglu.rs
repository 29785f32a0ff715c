//! SwiGLU (Shazeer, 2020) on its own, where gate and up projections have different weight types.

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
    /// Parameters shared with `shaders/ops/swiglu.wgsl`.
    pub(crate) struct SwiGluParams {
        width: u32,
        stride: u32,
    }
}

pub(crate) fn kernel() -> Kernel {
    Kernel::new("ops/swiglu", [64, 1, 1], SwiGluParams::LAYOUT, BINDINGS)
        .source(shader!("ops/swiglu.wgsl"))
}

/// `up = SiLU(gate) * up`, bound to its buffers.
#[derive(Clone, Debug)]
pub struct SwiGlu(Dispatch);

impl SwiGlu {
    /// Compiles and binds: `gate` and `up` are `[row, width]` of f32, `stride` f32s a row.
    ///
    /// # Errors
    /// [`GpuError::Compile`], and the errors of a bad view.
    pub async fn new(
        gpu: &Gpu,
        step: &StepBuffer,
        gate: BufferView<'_>,
        up: BufferView<'_>,
        width: u32,
        stride: u32,
    ) -> Result<Self, GpuError> {
        let pipeline = gpu.pipeline(&kernel()).await?;
        let uniform = gpu.uniform(&pipeline.name, &SwiGluParams { width, stride });
        let arguments = gpu.bind(
            &pipeline,
            &[
                ("params", BufferView::whole(&uniform)),
                ("step", step.view()),
                ("gate", gate),
                ("up", up),
            ],
        )?;
        Ok(Self(Dispatch::new(pipeline, arguments)))
    }

    /// Records at most `rows` rows.
    pub fn encode(&self, pass: &mut ComputePass<'_>, rows: u32) {
        self.0.encode(pass, [rows, 1, 1]);
    }
}
