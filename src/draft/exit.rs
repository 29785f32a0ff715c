//! Early exit: the target's own first layers draft (Elhoushi et al. 2024, LayerSkip, section 4.3; Zhang et al. 2024,
//! Draft & Verify).
//!
//! After `e` layers a trained exit guesses the next token: `y = RMS(x_e) * norm`, `n = y + SiLU(y W^T + b)`, logits
//! through the model's head. Keys and values of these layers are the target's own, so they go into its cache,
//! and the step goes on from layer `e` with the residual stream that is there: nothing is computed twice.

use std::io::{Read, Seek};

use wgpu::Buffer;

use super::{
    DraftContext, DraftCost, DraftError, DraftLimits, Drafted, Drafter, DrafterLoadError,
    Recording, drawing::Spread, kernels::Choose, residual::ResidualBlocks, vocabulary::DraftHead,
    weights::WeightFile,
};
use crate::{
    gpu::{BufferView, Gpu},
    model::{
        Decoder, Gguf, ReaderSource, StepKind, WeightSource,
        parts::{Activations, GateUpWeights, Layer, Plans, Stack, stride},
    },
    ops::{Argmax, Embed, Epilogue, Linear, LinearIo, RmsNorm, RmsNormIo, Rows, StepBuffer},
    tree::{DraftTree, DrawKind, blob_words},
};

/// Drafted tokens that the script of step sizes has room for.
const MAX_TOKENS: usize = 64;

/// How an [`ExitDrafter`] drafts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitOptions {
    /// Layers that draft; the weights need an exit after as many. Default 6.
    pub layers: u32,
    /// Drafted tokens of a chain: 1 to 64, others are clamped. Default 4.
    pub tokens: usize,
    /// Tokens that can be drafted, the most frequent ones of the model's, in any order; empty for all.
    pub vocabulary: Vec<u32>,
}

impl Default for ExitOptions {
    fn default() -> Self {
        ExitOptions {
            layers: 6,
            tokens: 4,
            vocabulary: Vec::new(),
        }
    }
}

/// Drafts chains with the target's first layers and an exit.
///
/// The weights of the exit after layer `e` are `exit.{e}.norm.weight`, `exit.{e}.linear.weight` (`[width, width]`) and
/// `exit.{e}.linear.bias`, all F16.
#[derive(Debug)]
pub struct ExitDrafter {
    step: StepBuffer,
    script: Buffer, // [pass] of a `StepBuffer`'s words
    token: Buffer,
    embed: Embed,
    layers: Vec<Layer>,
    residual: Buffer, // [1, stride]
    norm: RmsNorm,
    block: ResidualBlocks,
    head: Linear,
    argmax: Argmax,
    choose: Choose,
    spread: Spread,
    chosen: Buffer,
    tokens: usize,
    depth: usize, // of the draft that was answered with
}

impl ExitDrafter {
    /// Loads the exit from the bytes of a safetensors file, for `decoder`, which was loaded from `gguf` and
    /// `reader`.
    ///
    /// # Errors
    /// [`DrafterLoadError`] for weights that do not fit the model or have no such exit, and the device's errors.
    pub async fn load<R: Read + Seek>(
        gpu: &Gpu,
        decoder: &Decoder,
        gguf: &Gguf,
        reader: &mut R,
        weights: &[u8],
        options: &ExitOptions,
    ) -> Result<Self, DrafterLoadError> {
        let source = &mut ReaderSource(reader);
        Self::load_from(gpu, decoder, gguf, source, weights, options).await
    }

    /// As [`load`](Self::load), from a source of the model file whose bytes may have to be waited for.
    ///
    /// # Errors
    /// Those of [`load`](Self::load).
    pub async fn load_from<S: WeightSource>(
        gpu: &Gpu,
        decoder: &Decoder,
        gguf: &Gguf,
        source: &mut S,
        weights: &[u8],
        options: &ExitOptions,
    ) -> Result<Self, DrafterLoadError> {
        let file = WeightFile::new(gpu, weights)?;
        let h = decoder.hyperparameters();
        let count = options.layers;
        if !(1..h.block_count).contains(&count) {
            return Err(DrafterLoadError::Option {
                option: "layers",
                needed: format!("from 1 to {}, fewer than the model's", h.block_count - 1),
                given: count.to_string(),
            });
        }
        let width = h.embedding_length;
        let padded = stride(width);
        let view = BufferView::whole;
        let exit_norm = file.vector(&format!("exit.{count}.norm.weight"), width)?;

        let step = StepBuffer::new(gpu, 1, 0)?;
        let weights = decoder.layer_weights().iter().take(count as usize);
        let apart = |weights: &crate::model::parts::LayerWeights| {
            matches!(weights.gate_up, GateUpWeights::Apart { .. })
        };
        let activations = Activations::new(gpu, h, 1, weights.clone().any(apart))?;
        let plans = Plans::prepare(gpu, h, decoder.cache(), 1).await?;
        let (rope, table) = decoder.rope();
        let depth = gpu.storage_with("depth", &[0u32])?;
        // A row at a time never has branches.
        let no_tree = gpu.storage("no tree", blob_words(1) as u64 * 4)?;
        let stack = Stack {
            gpu,
            h,
            step: &step,
            activations: &activations,
            cache: decoder.cache(),
            plans: &plans,
            rope,
            table,
            blob: &no_tree,
            depth: view(&depth),
            rows: 1,
        };
        let mut layers = Vec::new();
        for (i, weights) in (0..).zip(weights) {
            layers.push(stack.layer(i, weights).await?);
        }
        let names = [format!("exit.{count}")];
        let normed = view(&activations.normed);
        let block = ResidualBlocks::load(gpu, &file, &names, width, normed).await?;
        let head = DraftHead::load(gpu, decoder, gguf, source, &options.vocabulary).await?;
        let ids = head.ids();
        let logits = gpu.storage("draft logits", u64::from(ids) * 4)?;
        let candidates = u64::from(Argmax::blocks(ids)) * Argmax::CANDIDATE_BYTES;
        let candidates = gpu.storage("draft candidates", candidates)?;
        let token_of = gpu.storage_with("draft vocabulary", &head.tokens)?;
        let chosen = gpu.storage("drafted token", 4)?;
        let token = gpu.storage("draft token", 4)?;
        let head_io = LinearIo {
            x: view(block.results()),
            x_stride: padded,
            y: view(&logits),
            y_stride: ids,
            y_offset: 0,
        };
        let norm_io = RmsNormIo {
            x: view(&activations.residual),
            weight: view(&exit_norm),
            y: normed,
            width,
            stride: padded,
        };
        let residual = view(&activations.residual);
        let matrix = &head.matrix;
        Ok(Self {
            script: gpu.storage("draft steps", (MAX_TOKENS as u64 + 1) * StepBuffer::SIZE)?,
            embed: Embed::new(
                gpu,
                decoder.embedding(),
                &step,
                view(&token),
                residual,
                padded,
            )
            .await?,
            norm: RmsNorm::new(gpu, &step, &norm_io, h.rms_epsilon, Rows::All).await?,
            head: Linear::new(gpu, matrix, Epilogue::Assign, &step, &head_io).await?,
            argmax: Argmax::new(gpu, ids, &step, view(&logits), view(&candidates)).await?,
            choose: Choose::new(gpu, ids, view(&candidates), view(&token_of), view(&chosen))
                .await?,
            spread: Spread::new(gpu, view(&logits), &head.tokens, h.vocabulary).await?,
            residual: activations.residual.clone(),
            step,
            token,
            layers,
            block,
            chosen,
            tokens: options.tokens.clamp(1, MAX_TOKENS),
            depth: 0,
        })
    }
}

impl Drafter for ExitDrafter {
    fn name(&self) -> &str {
        "exit"
    }

    fn limits(&self) -> DraftLimits {
        DraftLimits::new(self.tokens + 1, self.tokens, false, DraftCost::PerLevel)
    }

    fn draft(&mut self, context: &DraftContext<'_>) -> Result<Drafted, DraftError> {
        let root = context.root()?;
        self.depth = (self.tokens.min(context.max_depth)).min(context.max_nodes - 1);
        if context.draws > 0 {
            self.depth = self.depth.min(context.draws);
        }
        let mut tree = DraftTree::chain(root, &vec![0; self.depth])?;
        if context.draws > 0 {
            tree = tree.with_draw(DrawKind::Iid)?;
        }
        Ok(match self.depth {
            0 => Drafted::OnHost(tree),
            _ => Drafted::OnGpu(tree),
        })
    }

    fn record(&mut self, recording: &mut Recording<'_>) -> Result<(), DraftError> {
        let Some(root) = recording.tokens.last().filter(|_| recording.drafting) else {
            return Ok(());
        };
        let (encoder, decoder) = (&mut *recording.encoder, recording.decoder);
        // All but the root are in the cache.
        let past = recording.tokens.len() as u32 - 1;
        let depth = self.depth as u32;
        let queue = recording.gpu.queue();
        let script: Vec<[u32; 4]> = (0..=depth).map(|i| [1, past + i, 0, 0]).collect();
        queue.write_buffer(&self.script, 0, bytemuck::cast_slice(script.as_flattened()));
        queue.write_buffer(&self.token, 0, bytemuck::bytes_of(root));
        let row_bytes = self.residual.size();
        // The last token is only prepared for the target's further layers.
        for i in 0..=depth {
            let at = u64::from(i) * StepBuffer::SIZE;
            let step = self.step.buffer();
            encoder.copy_buffer_to_buffer(&self.script, at, step, 0, StepBuffer::SIZE);
            {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                self.embed.encode(&mut pass, 1);
                for layer in &self.layers {
                    layer.encode(&mut pass, 1, past + i + 1, StepKind::Chain);
                }
                if i < depth {
                    self.norm.encode(&mut pass, 1);
                    self.block.encode(&mut pass);
                    self.head.encode(&mut pass, 1);
                    match recording.drawing {
                        Some(_) => self.spread.encode(&mut pass),
                        None => {
                            self.argmax.encode(&mut pass, 1);
                            self.choose.encode(&mut pass);
                        }
                    }
                }
            }
            let place = u64::from(i) * row_bytes;
            encoder.copy_buffer_to_buffer(&self.residual, 0, decoder.features(), place, row_bytes);
            if i < depth {
                let node = u64::from(i + 1) * 4;
                match recording.drawing {
                    Some(drawing) => drawing.encode(encoder, i as usize, self.spread.row()),
                    None => {
                        encoder.copy_buffer_to_buffer(&self.chosen, 0, decoder.tree(), node, 4);
                    }
                }
                encoder.copy_buffer_to_buffer(decoder.tree(), node, &self.token, 0, 4);
            }
        }
        recording.layers_done = self.layers.len() as u32;
        Ok(())
    }
}
