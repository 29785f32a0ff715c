//! A Llama-family decoder: the kernels of all layers bound to one set of buffers, recorded as
//! one step.

mod activations;
mod batch;
mod build;
mod head;
mod layer;
mod layer_weights;
mod options;
mod plans;

/// What another stack of layers of the same shape, such as a draft module, is built from.
pub(crate) mod parts {
    pub(crate) use super::{
        activations::{Activations, stride},
        build::rope_table,
        layer::{Layer, Stack, linears},
        layer_weights::{GateUpWeights, LayerWeights},
        plans::Plans,
    };
}

use wgpu::{Buffer, ComputePass};

pub(crate) use self::batch::{BatchDecoder, ChainRows};
pub use self::options::{DecoderOptions, StepKind};
use self::{head::Head, layer::Layer, layer_weights::LayerWeights};
use super::{Hyperparameters, paging::Paging};
use crate::{
    cache::{Commit, KvCache, RopeShape},
    gpu::{Gpu, GpuError},
    ops::{Embed, Matrix, StepBuffer},
    verify::GreedyVerifier,
};

/// A decoder on the GPU, with its cache, for one sequence.
#[derive(Debug)]
pub struct Decoder {
    hyperparameters: Hyperparameters,
    options: DecoderOptions,
    step: StepBuffer,
    blob: Buffer,
    embed: Embed,
    embedding: Matrix,
    residual: Buffer, // [row, width]
    layers: Vec<Layer>,
    layer_weights: Vec<LayerWeights>,
    rope: RopeShape,
    rope_table: Buffer, // [position, rotated / 2] of (cos, sin)
    head: Head,
    verifier: GreedyVerifier,
    cache: KvCache,
    paging: Option<Paging>, // of an empty sequence
    commit: Commit,
    bytes: u64,
    fingerprint: u64,
    batch: Option<BatchDecoder>,
    kernels: Gpu, // with those that are still compiling
}

impl Decoder {
    /// The cache.
    pub fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// The accounts of an empty sequence, where the cache has pages.
    pub(crate) fn paging(&self) -> Option<Paging> {
        self.paging.clone()
    }

    /// The kernels for several sequences, where there are any.
    pub(crate) fn batch(&self) -> Option<&BatchDecoder> {
        self.batch.as_ref()
    }

    /// The model's hyperparameters.
    pub fn hyperparameters(&self) -> &Hyperparameters {
        &self.hyperparameters
    }

    /// The options, as they were adjusted to the model.
    pub fn options(&self) -> &DecoderOptions {
        &self.options
    }

    /// What tells this model from others: equal for equal weights. Not safe against attacks.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Waits for all kernels, where [`DecoderOptions::lazy_kernels`] let loading end before they were compiled.
    ///
    /// # Errors
    /// [`GpuError::Compile`] for one that the device refuses.
    pub fn compiled(&self) -> impl Future<Output = Result<(), GpuError>> + use<> {
        let kernels = self.kernels.clone();
        async move { kernels.compiled().await }
    }

    /// Waits for the kernels of a whole step as [`encode`](Self::encode) records it.
    ///
    /// # Errors
    /// As [`compiled`](Self::compiled).
    pub(crate) async fn ready(&self, rows: u32, keys: u32, kind: StepKind) -> Result<(), GpuError> {
        if self.kernels.is_compiled() {
            return Ok(());
        }
        // Recorded once for nothing, it tells which they are.
        let mut encoder = (self.kernels.device()).create_command_encoder(&Default::default());
        self.encode(
            &mut encoder.begin_compute_pass(&Default::default()),
            rows,
            keys,
            kind,
        );
        drop(encoder);
        self.kernels.compiled_missing().await
    }

    /// Bytes of GPU memory in storage buffers: weights, cache, activations, logits.
    pub fn gpu_bytes(&self) -> u64 {
        self.bytes
    }

    /// Nodes the tree blob has room for: its stride.
    pub fn max_nodes(&self) -> u32 {
        self.options.prompt_rows
    }

    /// The buffer that holds the step's tree blob, written by the host or by a drafter.
    pub fn tree(&self) -> &Buffer {
        &self.blob
    }

    /// The features of the last step's rows: the residual stream after the last layer, before the output
    /// norm. `[row, width]` of f32, a row every `width` f32s rounded up to a multiple of 32. They last
    /// until the next step is computed.
    pub fn features(&self) -> &Buffer {
        &self.residual
    }

    /// The embedding matrix, `[token, width]`.
    pub fn embedding(&self) -> &Matrix {
        &self.embedding
    }

    /// The weights of each layer: handles of buffers.
    pub(crate) fn layer_weights(&self) -> &[LayerWeights] {
        &self.layer_weights
    }

    /// How heads rotate, and the table of rotations from position 0 on.
    pub(crate) fn rope(&self) -> (RopeShape, &Buffer) {
        (self.rope, &self.rope_table)
    }

    /// The step: rows and committed keys.
    pub fn step(&self) -> &StepBuffer {
        &self.step
    }

    /// Outcome of the last step, for [`Outcome::from_words`](crate::verify::Outcome::from_words).
    pub fn outcome(&self) -> &Buffer {
        self.verifier.outcome()
    }

    /// Logits of the last step, `[row, vocabulary]` of f32; row 0 alone after a prompt.
    pub fn logits(&self) -> &Buffer {
        self.head.logits()
    }

    /// Records a whole step of `rows` rows, with at most `keys` keys in the cache after it: from
    /// the tokens in the tree blob to outcome and committed length, greedily. The step buffer must say the
    /// same number of rows.
    pub fn encode(&self, pass: &mut ComputePass<'_>, rows: u32, keys: u32, kind: StepKind) {
        self.encode_logits(pass, rows, keys, kind);
        self.encode_greedy(pass, rows, kind);
        self.encode_end(pass, kind);
    }

    /// Records the first part of a step: from the tokens in the tree blob to logits, where the kind of step
    /// has any.
    pub fn encode_logits(&self, pass: &mut ComputePass<'_>, rows: u32, keys: u32, kind: StepKind) {
        self.encode_logits_from(pass, 0, rows, keys, kind);
    }

    /// As [`encode_logits`](Self::encode_logits) where the first `done` layers of all rows are done: their residual
    /// stream lies in [`features`](Self::features), their keys and values in the cache.
    pub fn encode_logits_from(
        &self,
        pass: &mut ComputePass<'_>,
        done: u32,
        rows: u32,
        keys: u32,
        kind: StepKind,
    ) {
        if done == 0 {
            self.embed.encode(pass, rows);
        }
        for layer in self.layers.iter().skip(done as usize) {
            layer.encode(pass, rows, keys, kind);
        }
        match kind {
            StepKind::Prompt => {}
            StepKind::LastPrompt => self.head.encode_last(pass),
            StepKind::Chain | StepKind::Tree => self.head.encode(pass, rows),
        }
    }

    /// Records the middle of a step at temperature 0: from logits to the [`outcome`](Self::outcome). A caller who
    /// verifies in another way writes the outcome himself.
    pub fn encode_greedy(&self, pass: &mut ComputePass<'_>, rows: u32, kind: StepKind) {
        match kind {
            StepKind::Prompt => {}
            StepKind::LastPrompt => {
                self.head.encode_argmax_last(pass);
                self.verifier.encode_prompt(pass);
            }
            StepKind::Chain | StepKind::Tree => {
                self.head.encode_argmax(pass, rows);
                self.verifier.encode(pass);
            }
        }
    }

    /// Records the end of a step: from the outcome to what is kept in the cache, and to the committed length.
    pub fn encode_end(&self, pass: &mut ComputePass<'_>, kind: StepKind) {
        match kind {
            StepKind::Prompt | StepKind::LastPrompt => self.verifier.encode_finish_prompt(pass),
            StepKind::Chain => self.verifier.encode_finish(pass),
            StepKind::Tree => {
                self.commit.encode(pass);
                self.verifier.encode_finish(pass);
            }
        }
    }
}
