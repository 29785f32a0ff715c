//! From the residual stream to logits and their argmax.

use wgpu::{Buffer, ComputePass};

use super::{
    activations::{Activations, stride},
    layer::linears,
};
use crate::{
    gpu::{BufferView, Gpu},
    model::{Hyperparameters, LoadError},
    ops::{Argmax, Epilogue, Linear, LinearIo, Matrix, RmsNorm, RmsNormIo, Rows, StepBuffer},
};

/// Output norm, head and argmax: for every row, and for a step's last row alone.
#[derive(Debug)]
pub(super) struct Head {
    norm: RmsNorm,
    norm_last: RmsNorm,
    linears: Vec<Linear>,
    linears_last: Vec<Linear>,
    argmax: Argmax,
    argmax_last: Argmax,
    logits: Buffer,     // [row, vocabulary]
    candidates: Buffer, // [row, block] of the argmax
}

impl Head {
    /// Compiles and binds for at most `rows` rows with logits.
    pub async fn new(
        gpu: &Gpu,
        h: &Hyperparameters,
        step: &StepBuffer,
        activations: &Activations,
        norm_weight: &Buffer,
        matrices: &[Matrix],
        rows: u32,
    ) -> Result<Self, LoadError> {
        let one_row = StepBuffer::new(gpu, 1, 0)?;
        let width = h.embedding_length;
        let logits_bytes = u64::from(rows) * u64::from(h.vocabulary) * 4;
        let logits = gpu.storage("logits", logits_bytes)?;
        let candidates = gpu.storage(
            "argmax candidates",
            u64::from(rows * Argmax::blocks(h.vocabulary)) * Argmax::CANDIDATE_BYTES,
        )?;
        let view = BufferView::whole;
        let norm_io = RmsNormIo {
            x: view(&activations.residual),
            weight: view(norm_weight),
            y: view(&activations.normed),
            width,
            stride: stride(width),
        };
        let io = LinearIo {
            x: view(&activations.normed),
            x_stride: stride(width),
            y: view(&logits),
            y_stride: h.vocabulary,
            y_offset: 0,
        };
        let argmax = async |step: &StepBuffer| {
            Argmax::new(gpu, h.vocabulary, step, view(&logits), view(&candidates)).await
        };
        let epsilon = h.rms_epsilon;
        let mut linears_last = Vec::new();
        let mut io_last = io;
        for matrix in matrices {
            let last = Linear::of_one(gpu, matrix, Epilogue::Assign, &one_row, &io_last).await?;
            linears_last.push(last);
            io_last.y_offset += matrix.rows;
        }
        Ok(Self {
            norm: RmsNorm::new(gpu, step, &norm_io, epsilon, Rows::All).await?,
            norm_last: RmsNorm::new(gpu, step, &norm_io, epsilon, Rows::Last).await?,
            linears: linears(&gpu.later(), matrices, Epilogue::Assign, step, &io).await?,
            linears_last,
            argmax: argmax(step).await?,
            argmax_last: argmax(&one_row).await?,
            logits,
            candidates,
        })
    }

    /// Logits `[row, vocabulary]`.
    pub fn logits(&self) -> &Buffer {
        &self.logits
    }

    /// Candidates of the argmax, `[row, block]`.
    pub fn candidates(&self) -> &Buffer {
        &self.candidates
    }

    /// Records the logits of `rows` rows, the same bits for a row in any company.
    pub fn encode(&self, pass: &mut ComputePass<'_>, rows: u32) {
        self.norm.encode(pass, rows);
        for linear in &self.linears {
            linear.encode_few(pass, rows);
        }
    }

    /// Records the argmax of `rows` rows of logits.
    pub fn encode_argmax(&self, pass: &mut ComputePass<'_>, rows: u32) {
        self.argmax.encode(pass, rows);
    }

    /// Records the logits of the step's last row, into row 0.
    pub fn encode_last(&self, pass: &mut ComputePass<'_>) {
        self.norm_last.encode(pass, 1);
        for linear in &self.linears_last {
            linear.encode(pass, 1);
        }
    }

    /// Records the argmax of row 0.
    pub fn encode_argmax_last(&self, pass: &mut ComputePass<'_>) {
        self.argmax_last.encode(pass, 1);
    }
}
