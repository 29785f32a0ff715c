//! Biases of linear layers.

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
    /// Parameters shared with `shaders/ops/bias.wgsl`.
    pub(crate) struct BiasParams {
        width: u32,
        stride: u32,
    }
}

pub(crate) fn kernel() -> Kernel {
    Kernel::new("ops/bias", [64, 1, 1], BiasParams::LAYOUT, BINDINGS)
        .source(shader!("ops/bias.wgsl"))
}

/// `y = y + bias` for every row, bound to its buffers.
#[derive(Clone, Debug)]
pub struct Bias(Dispatch);

impl Bias {
    /// Compiles and binds: `bias` is `[width]` and `y` is `[row, width]` of f32, `stride` f32s a row.
    ///
    /// # Errors
    /// [`GpuError::Compile`], and the errors of a bad view.
    pub async fn new(
        gpu: &Gpu,
        step: &StepBuffer,
        bias: BufferView<'_>,
        y: BufferView<'_>,
        width: u32,
        stride: u32,
    ) -> Result<Self, GpuError> {
        let pipeline = gpu.pipeline(&kernel()).await?;
        let uniform = gpu.uniform(&pipeline.name, &BiasParams { width, stride });
        let views = [
            ("params", BufferView::whole(&uniform)),
            ("step", step.view()),
            ("bias", bias),
            ("y", y),
        ];
        let arguments = gpu.bind(&pipeline, &views)?;
        Ok(Self(Dispatch::new(pipeline, arguments)))
    }

    /// Records at most `rows` rows.
    pub fn encode(&self, pass: &mut ComputePass<'_>, rows: u32) {
        self.0.encode(pass, [rows, 1, 1]);
    }
}
