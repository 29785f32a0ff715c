//! RMSNorm (Zhang and Sennrich, 2019).

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
    /// Parameters shared with `shaders/ops/rms_norm.wgsl`.
    pub(crate) struct RmsNormParams {
        width: u32,
        quads: u32,
        x_stride: u32,
        y_stride: u32,
        epsilon: f32,
        last_only: u32,
    }
}

/// Invocations a row: enough for hardware, few enough for the fixed-order sum.
const LANES: u32 = 32;

pub(crate) fn kernel() -> Kernel {
    Kernel::new(
        "ops/rms_norm",
        [LANES, 1, 1],
        RmsNormParams::LAYOUT,
        BINDINGS,
    )
    .source(shader!("ops/rms_norm.wgsl"))
    .workgroup_bytes(u64::from(LANES) * 4)
}

/// Which rows of a step are normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Every row, each into the row of the same index.
    All,
    /// Only the last row of the step, into row 0: after a prompt only its logits are wanted.
    Last,
}

/// The buffers of a norm.
#[derive(Clone, Copy, Debug)]
pub struct RmsNormIo<'a> {
    /// `[row, width]`, f32.
    pub x: BufferView<'a>,
    /// `[width]`, f32.
    pub weight: BufferView<'a>,
    /// `[row, width]`, f32.
    pub y: BufferView<'a>,
    /// f32s of a row, a multiple of 4.
    pub width: u32,
    /// f32s from one row of `x` and `y` to the next, a multiple of 4.
    pub stride: u32,
}

/// `y = x / sqrt(mean(x^2) + epsilon) * weight`, bound to its buffers.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    dispatch: Dispatch,
    rows: Rows,
}

impl RmsNorm {
    /// Compiles and binds.
    ///
    /// # Errors
    /// [`GpuError::Compile`], and the errors of a bad view.
    pub async fn new(
        gpu: &Gpu,
        step: &StepBuffer,
        io: &RmsNormIo<'_>,
        epsilon: f32,
        rows: Rows,
    ) -> Result<Self, GpuError> {
        let pipeline = gpu.pipeline(&kernel()).await?;
        let params = RmsNormParams {
            width: io.width,
            quads: io.width / 4,
            x_stride: io.stride / 4,
            y_stride: io.stride / 4,
            epsilon,
            last_only: u32::from(rows == Rows::Last),
        };
        let uniform = gpu.uniform(&pipeline.name, &params);
        let arguments = gpu.bind(
            &pipeline,
            &[
                ("params", BufferView::whole(&uniform)),
                ("step", step.view()),
                ("x", io.x),
                ("weight", io.weight),
                ("y", io.y),
            ],
        )?;
        Ok(Self {
            dispatch: Dispatch::new(pipeline, arguments),
            rows,
        })
    }

    /// Records the norm of exactly `rows` rows (one, where only the last row is wanted).
    pub fn encode(&self, pass: &mut ComputePass<'_>, rows: u32) {
        let groups = match self.rows {
            Rows::All => rows,
            Rows::Last => rows.min(1),
        };
        self.dispatch.encode(pass, [groups, 1, 1]);
    }
}
