//! Residual blocks: what Medusa heads and early exits put between a feature and the model's head.

use wgpu::{Buffer, ComputePass};

use super::{DrafterLoadError, weights::WeightFile};
use crate::{
    gpu::{Binding, BufferView, Gpu, Kernel, shader, shared_struct},
    model::parts::stride,
    ops::{Dispatch, Epilogue, Linear, LinearIo, StepBuffer},
};

shared_struct! {
    /// Parameters shared with `shaders/draft/residual.wgsl`.
    pub(crate) struct ResidualParams {
        width: u32,
        stride: u32,
    }
}

pub(super) fn kernel() -> Kernel {
    let bindings = &[
        Binding::Uniform,
        Binding::Read,
        Binding::Read,
        Binding::Write,
    ];
    Kernel::new(
        "draft/residual",
        [64, 1, 1],
        ResidualParams::LAYOUT,
        bindings,
    )
    .source(shader!("draft/residual.wgsl"))
}

/// Blocks `x + SiLU(x W^T + b)` of several heads over one row `x`, bound to its buffer.
#[derive(Debug)]
pub(super) struct ResidualBlocks {
    products: Linear,
    finish: Dispatch,
    heads: u32,
    results: Buffer, // [head, stride]
}

impl ResidualBlocks {
    /// Loads the heads whose tensors are called `names[head].linear.weight` and `.bias`, and binds them to `x`,
    /// `[width]` of f32 with zeros up to the next multiple of 32.
    pub async fn load(
        gpu: &Gpu,
        file: &WeightFile<'_>,
        names: &[String],
        width: u32,
        x: BufferView<'_>,
    ) -> Result<Self, DrafterLoadError> {
        let padded = stride(width);
        let heads = names.len() as u32;
        let tensors: Vec<_> = (names.iter())
            .map(|name| format!("{name}.linear.weight"))
            .collect();
        let weights = file.padded(&tensors, width, padded)?;
        let mut biases = Vec::new();
        for name in names {
            biases.extend(file.values(&format!("{name}.linear.bias"), width)?);
            biases.resize(biases.len().next_multiple_of(padded as usize), 0.0);
        }
        let biases = gpu.storage_with("biases of heads", &biases)?;
        let results = gpu.storage("heads", u64::from(heads * padded) * 4)?;
        let one_row = StepBuffer::new(gpu, 1, 0)?;
        let io = LinearIo {
            x,
            x_stride: padded,
            y: BufferView::whole(&results),
            y_stride: heads * padded,
            y_offset: 0,
        };
        let products = Linear::new(gpu, &weights, Epilogue::Assign, &one_row, &io).await?;
        let pipeline = gpu.pipeline(&kernel()).await?;
        let params = ResidualParams {
            width,
            stride: padded,
        };
        let uniform = gpu.uniform(&pipeline.name, &params);
        let views = [
            ("params", BufferView::whole(&uniform)),
            ("x", x),
            ("bias", BufferView::whole(&biases)),
            ("y", BufferView::whole(&results)),
        ];
        let arguments = gpu.bind(&pipeline, &views)?;
        Ok(Self {
            products,
            finish: Dispatch::new(pipeline, arguments),
            heads,
            results,
        })
    }

    /// Number of heads.
    pub fn heads(&self) -> u32 {
        self.heads
    }

    /// `[head, stride]` of f32.
    pub fn results(&self) -> &Buffer {
        &self.results
    }

    pub fn encode(&self, pass: &mut ComputePass<'_>) {
        self.products.encode(pass, 1);
        self.finish.encode(pass, [self.heads, 1, 1]);
    }
}
