//! One layer: its kernels, bound to the activations that all layers share.

use wgpu::{Buffer, ComputePass};

use super::{
    StepKind,
    activations::{Activations, qkv_width, stride},
    layer_weights::{GateUpWeights, LayerWeights},
    plans::{LayerAttention, Plans},
};
use crate::{
    attention::CacheIo,
    cache::{Append, AppendIo, AppendShape, KvCache, RopeShape},
    gpu::{BufferView, Gpu},
    model::{Hyperparameters, LoadError},
    ops::{
        Bias, Epilogue, HeadNorm, HeadNormIo, Linear, LinearIo, Matrix, RmsNorm, RmsNormIo, Rows,
        StepBuffer, SwiGlu,
    },
};

/// A layer bound to its buffers.
#[derive(Debug)]
pub(crate) struct Layer {
    attention_norm: RmsNorm,
    qkv: Vec<Linear>,
    bias: Option<Bias>,
    head_norm: Option<HeadNorm>,
    append: Append,
    attention: LayerAttention,
    attention_output: Vec<Linear>,
    feed_forward_norm: RmsNorm,
    gate_up: GateUp,
    down: Vec<Linear>,
}

#[derive(Debug)]
enum GateUp {
    Fused(Linear),
    Apart {
        gate: Vec<Linear>,
        up: Vec<Linear>,
        activation: SwiGlu,
    },
}

/// What the layers of a stack share.
pub(crate) struct Stack<'a> {
    pub gpu: &'a Gpu,
    pub h: &'a Hyperparameters,
    pub step: &'a StepBuffer,
    pub activations: &'a Activations,
    pub cache: &'a KvCache,
    pub plans: &'a Plans,
    pub rope: RopeShape,
    /// `[position, rotated / 2]` of (cos, sin).
    pub table: &'a Buffer,
    /// The tree blob.
    pub blob: &'a Buffer,
    /// Most rows that are appended to the cache at a time.
    pub rows: u32,
    /// Depth of each row, in the blob.
    pub depth: BufferView<'a>,
}

/// One linear layer a matrix, their results side by side.
pub(crate) async fn linears(
    gpu: &Gpu,
    matrices: &[Matrix],
    epilogue: Epilogue,
    step: &StepBuffer,
    io: &LinearIo<'_>,
) -> Result<Vec<Linear>, LoadError> {
    let mut linears = Vec::new();
    let mut io = *io;
    for matrix in matrices {
        linears.push(Linear::new(gpu, matrix, epilogue, step, &io).await?);
        io.y_offset += matrix.rows;
    }
    Ok(linears)
}

impl Stack<'_> {
    /// Compiles and binds a layer with `weights` that appends to layer `i` of the cache.
    pub async fn layer(&self, i: u32, weights: &LayerWeights) -> Result<Layer, LoadError> {
        self.layer_over(i, weights, self.step.view()).await
    }

    /// As [`layer`](Self::layer), where `lengths` says how the step's rows belong to sequences: `[sequence]` of rows,
    /// committed keys, rows before the sequence's first, and keys before it.
    pub async fn layer_over(
        &self,
        i: u32,
        weights: &LayerWeights,
        lengths: BufferView<'_>,
    ) -> Result<Layer, LoadError> {
        let (gpu, h, step, a) = (self.gpu, self.h, self.step, self.activations);
        let width = h.embedding_length;
        let query_width = h.head_count * h.key_length;
        let view = BufferView::whole;

        let norm = async |weight: &Buffer| {
            let io = RmsNormIo {
                x: view(&a.residual),
                weight: BufferView::whole(weight),
                y: view(&a.normed),
                width,
                stride: stride(width),
            };
            RmsNorm::new(gpu, step, &io, h.rms_epsilon, Rows::All).await
        };
        let to_residual = |x, x_stride| LinearIo {
            x,
            x_stride,
            y: view(&a.residual),
            y_stride: stride(width),
            y_offset: 0,
        };
        let qkv_io = self.normed_into(view(&a.qkv), qkv_width(h));
        let attended_io = to_residual(view(&a.attended), stride(query_width));
        let down_io = to_residual(view(&a.feed_forward), stride(h.feed_forward_length));
        Ok(Layer {
            attention_norm: norm(&weights.attention_norm).await?,
            qkv: linears(gpu, &weights.qkv, Epilogue::Assign, step, &qkv_io).await?,
            bias: match &weights.biases {
                Some(bias) => {
                    let (bias, y, width) = (view(bias), view(&a.qkv), qkv_width(h));
                    Some(Bias::new(gpu, step, bias, y, width, width).await?)
                }
                None => None,
            },
            head_norm: match &weights.head_norms {
                Some([query_weight, key_weight]) => {
                    let io = HeadNormIo {
                        x: view(&a.qkv),
                        stride: qkv_width(h),
                        query_heads: h.head_count,
                        key_heads: h.head_count_kv,
                        head_dim: h.key_length,
                        query_weight: view(query_weight),
                        key_weight: view(key_weight),
                    };
                    Some(HeadNorm::new(gpu, step, &io, h.rms_epsilon).await?)
                }
                None => None,
            },
            append: self.append(i, lengths).await?,
            attention: self.attention(i, lengths)?,
            attention_output: linears(
                gpu,
                &weights.attention_output,
                Epilogue::Add,
                step,
                &attended_io,
            )
            .await?,
            feed_forward_norm: norm(&weights.feed_forward_norm).await?,
            gate_up: self.gate_up(&weights.gate_up).await?,
            down: linears(gpu, &weights.down, Epilogue::Add, step, &down_io).await?,
        })
    }

    fn normed_into<'b>(&'b self, y: BufferView<'b>, y_stride: u32) -> LinearIo<'b> {
        LinearIo {
            x: BufferView::whole(&self.activations.normed),
            x_stride: stride(self.h.embedding_length),
            y,
            y_stride,
            y_offset: 0,
        }
    }

    async fn append(&self, i: u32, lengths: BufferView<'_>) -> Result<Append, LoadError> {
        let interval = self.h.architecture.no_rope_interval();
        let without = interval.is_some_and(|interval| (i + 1).is_multiple_of(interval));
        let rope = RopeShape {
            rotated: if without { 0 } else { self.rope.rotated },
            ..self.rope
        };
        let shape = AppendShape {
            query_heads: self.h.head_count,
            rope,
            row_stride: 0,
            depth_stride: 0,
            max_rows: self.rows,
        };
        let io = AppendIo {
            sequences: lengths,
            depth: self.depth,
            table: BufferView::whole(self.table),
            x: BufferView::whole(&self.activations.qkv),
        };
        Ok(Append::new(self.gpu, self.cache, i, &shape, &io).await?)
    }

    fn attention(&self, i: u32, lengths: BufferView<'_>) -> Result<LayerAttention, LoadError> {
        let io = CacheIo {
            query: BufferView::whole(&self.activations.qkv),
            output: BufferView::whole(&self.activations.attended),
            lse: None,
            bias: None,
            lengths,
            tree: None,
        };
        self.plans.bind(self.cache, i, &io, self.blob)
    }

    async fn gate_up(&self, weights: &GateUpWeights) -> Result<GateUp, LoadError> {
        let (gpu, step, a) = (self.gpu, self.step, self.activations);
        let ff = self.h.feed_forward_length;
        let up_view = BufferView::whole(&a.feed_forward);
        let ff_io = self.normed_into(up_view, stride(ff));
        match (weights, &a.gate) {
            (GateUpWeights::Fused(matrix), _) => Ok(GateUp::Fused(
                Linear::new(gpu, matrix, Epilogue::SwiGlu, step, &ff_io).await?,
            )),
            (GateUpWeights::Apart { gate, up }, Some(buffer)) => {
                let gate_view = BufferView::whole(buffer);
                let gate_io = self.normed_into(gate_view, stride(ff));
                Ok(GateUp::Apart {
                    gate: linears(gpu, gate, Epilogue::Assign, step, &gate_io).await?,
                    up: linears(gpu, up, Epilogue::Assign, step, &ff_io).await?,
                    activation: SwiGlu::new(gpu, step, gate_view, up_view, ff, stride(ff)).await?,
                })
            }
            (GateUpWeights::Apart { .. }, None) => Err(LoadError::Empty),
        }
    }
}

impl Layer {
    /// Records the layer for `rows` rows, with at most `keys` keys in the cache after it.
    pub fn encode(&self, pass: &mut ComputePass<'_>, rows: u32, keys: u32, kind: StepKind) {
        self.encode_batch(pass, rows, rows, keys, kind);
    }

    /// As [`encode`](Self::encode), for `rows` rows of several sequences, of which one has at most `each`.
    pub fn encode_batch(
        &self,
        pass: &mut ComputePass<'_>,
        rows: u32,
        each: u32,
        keys: u32,
        kind: StepKind,
    ) {
        // A drafted token must get the bits that decoding it would have given.
        let run = |linear: &Linear, pass: &mut ComputePass<'_>| match kind {
            StepKind::Prompt | StepKind::LastPrompt => linear.encode(pass, rows),
            StepKind::Chain | StepKind::Tree => linear.encode_few(pass, rows),
        };
        self.attention_norm.encode(pass, rows);
        for linear in &self.qkv {
            run(linear, pass);
        }
        if let Some(bias) = &self.bias {
            bias.encode(pass, rows);
        }
        if let Some(norm) = &self.head_norm {
            norm.encode(pass, rows);
        }
        self.append.encode(pass, each);
        match kind {
            StepKind::Tree => self.attention.tree.encode(pass, each, keys),
            StepKind::Chain => self.attention.chain.encode(pass, each, keys),
            _ => self.attention.prompt.encode(pass, each, keys),
        }
        for linear in &self.attention_output {
            run(linear, pass);
        }
        self.feed_forward_norm.encode(pass, rows);
        match &self.gate_up {
            GateUp::Fused(linear) => run(linear, pass),
            GateUp::Apart {
                gate,
                up,
                activation,
            } => {
                for linear in gate.iter().chain(up) {
                    run(linear, pass);
                }
                activation.encode(pass, rows);
            }
        }
        for linear in &self.down {
            run(linear, pass);
        }
    }
}
