//! The small kernels between the layers of a drafter.

use wgpu::ComputePass;

use super::{drawing, residual};
use crate::{
    gpu::{Binding, BufferView, Gpu, GpuError, Kernel, shader, shared_struct},
    ops::{Argmax, Dispatch, StepBuffer},
};

shared_struct! {
    /// Parameters shared with `shaders/draft/gather.wgsl`.
    pub(crate) struct GatherParams {
        quads: u32,
        stride: u32,
        rows: u32,
    }
}

shared_struct! {
    /// Parameters shared with `shaders/draft/choose.wgsl`.
    pub(crate) struct ChooseParams {
        blocks: u32,
        vocabulary: u32,
    }
}

fn gather_kernel() -> Kernel {
    let bindings = &[
        Binding::Uniform,
        Binding::Read,
        Binding::Read,
        Binding::Read,
        Binding::Write,
    ];
    Kernel::new("draft/gather", [32, 1, 1], GatherParams::LAYOUT, bindings)
        .source(shader!("draft/gather.wgsl"))
}

fn choose_kernel() -> Kernel {
    let bindings = &[
        Binding::Uniform,
        Binding::Read,
        Binding::Read,
        Binding::Write,
    ];
    Kernel::new("draft/choose", [1, 1, 1], ChooseParams::LAYOUT, bindings)
        .source(shader!("draft/choose.wgsl"))
}

/// Every variant: see [`crate::variants`].
pub(crate) fn variants() -> Vec<Kernel> {
    vec![
        gather_kernel(),
        choose_kernel(),
        residual::kernel(),
        drawing::kernel(),
    ]
}

/// Rows of features picked by index.
#[derive(Debug)]
pub(super) struct Gather(Dispatch);

impl Gather {
    /// Binds: `x` and `y` are `[row, stride]` of f32, `index` is `[row]`.
    pub async fn new(
        gpu: &Gpu,
        step: &StepBuffer,
        index: BufferView<'_>,
        x: BufferView<'_>,
        y: BufferView<'_>,
        stride: u32,
    ) -> Result<Self, GpuError> {
        let pipeline = gpu.pipeline(&gather_kernel()).await?;
        let params = GatherParams {
            quads: stride / 4,
            stride: stride / 4,
            rows: (x.size / 4 / u64::from(stride)) as u32,
        };
        let uniform = gpu.uniform(&pipeline.name, &params);
        let views = [
            ("params", BufferView::whole(&uniform)),
            ("step", step.view()),
            ("index", index),
            ("x", x),
            ("y", y),
        ];
        let arguments = gpu.bind(&pipeline, &views)?;
        Ok(Self(Dispatch::new(pipeline, arguments)))
    }

    pub fn encode(&self, pass: &mut ComputePass<'_>, rows: u32) {
        self.0.encode(pass, [rows, 1, 1]);
    }
}

/// The likeliest token of a row.
#[derive(Debug)]
pub(super) struct Choose(Dispatch);

impl Choose {
    /// Binds: `candidates` of an [`Argmax`] over `vocabulary` logits, `token_of` the token of each.
    pub async fn new(
        gpu: &Gpu,
        vocabulary: u32,
        candidates: BufferView<'_>,
        token_of: BufferView<'_>,
        chosen: BufferView<'_>,
    ) -> Result<Self, GpuError> {
        let pipeline = gpu.pipeline(&choose_kernel()).await?;
        let params = ChooseParams {
            blocks: Argmax::blocks(vocabulary),
            vocabulary,
        };
        let uniform = gpu.uniform(&pipeline.name, &params);
        let views = [
            ("params", BufferView::whole(&uniform)),
            ("candidates", candidates),
            ("token_of", token_of),
            ("chosen", chosen),
        ];
        let arguments = gpu.bind(&pipeline, &views)?;
        Ok(Self(Dispatch::new(pipeline, arguments)))
    }

    pub fn encode(&self, pass: &mut ComputePass<'_>) {
        self.0.encode(pass, [1, 1, 1]);
    }
}
