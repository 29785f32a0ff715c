//! Token embedding from a quantised matrix.

use wgpu::ComputePass;

use super::{Dispatch, Matrix, StepBuffer, WeightType, linear::bindings, linear::weights_source};
use crate::gpu::{BufferView, Gpu, GpuError, Kernel, shader, shared_struct};

shared_struct! {
    /// Parameters shared with `shaders/ops/embed.wgsl`.
    pub(crate) struct EmbedParams {
        blocks: u32,
        y_stride: u32,
        first_token: u32,
        tokens: u32,
        width: u32,
    }
}

pub(crate) fn kernel(weight_type: WeightType) -> Kernel {
    Kernel::new(
        format!("ops/embed/{}", weight_type.name()),
        [32, 1, 1],
        EmbedParams::LAYOUT,
        bindings(weight_type),
    )
    .source(shader!("ops/embed.wgsl"))
    .source(weights_source(weight_type))
}

/// `y[row] = E[tokens[row]]`, bound to its buffers.
#[derive(Clone, Debug)]
pub struct Embed(Vec<Dispatch>);

impl Embed {
    /// Compiles and binds: `tokens` is `[row]` of u32, `y` is `[row, columns]` of f32 with
    /// `y_stride` f32s from one row to the next, a multiple of 4.
    ///
    /// A token id past the end of the matrix leaves its row as it was; callers check ids.
    ///
    /// # Errors
    /// [`GpuError::Compile`], and the errors of a bad view.
    pub async fn new(
        gpu: &Gpu,
        matrix: &Matrix,
        step: &StepBuffer,
        tokens: BufferView<'_>,
        y: BufferView<'_>,
        y_stride: u32,
    ) -> Result<Self, GpuError> {
        let pipeline = gpu.pipeline(&kernel(matrix.weight_type)).await?;
        let mut dispatches = Vec::new();
        for part in &matrix.parts {
            let first_token = part.first_tile * 32;
            let params = EmbedParams {
                blocks: matrix.blocks(),
                y_stride: y_stride / 4,
                first_token,
                tokens: (part.tiles * 32).min(matrix.rows - first_token),
                width: matrix.columns / 4,
            };
            let uniform = gpu.uniform(&pipeline.name, &params);
            let mut views = vec![
                ("params", BufferView::whole(&uniform)),
                ("step", step.view()),
                ("tokens", tokens),
                ("quants", part.quants()),
                ("y", y),
            ];
            views.extend(part.scales().map(|scales| ("scales", scales)));
            let arguments = gpu.bind(&pipeline, &views)?;
            dispatches.push(Dispatch::new(pipeline.clone(), arguments));
        }
        Ok(Self(dispatches))
    }

    /// Records the embedding of at most `rows` rows.
    pub fn encode(&self, pass: &mut ComputePass<'_>, rows: u32) {
        for dispatch in &self.0 {
            dispatch.encode(pass, [rows, 1, 1]);
        }
    }
}
