//! Several sequences decoded in one step.
//!
//! A second set of kernels over the decoder's weights, with activations and a cache of their own. The rows of a step
//! follow each other, those of one sequence `each` apart from those of the next, and the lengths say which sequence they
//! belong to. They are the kernels of verification, whose rows do not depend on their company: each sequence gets the
//! bits that it would get alone.

use wgpu::{Buffer, ComputePass};

use super::{
    DecoderOptions, StepKind,
    activations::{Activations, stride},
    head::Head,
    layer::{Layer, Stack},
    layer_weights::LayerWeights,
    plans::Plans,
};
use crate::{
    cache::{CacheShape, KvCache, PoolOptions, RopeShape},
    gpu::{BufferView, Gpu},
    model::{Hyperparameters, LoadError},
    ops::{Embed, Matrix, StepBuffer},
};

/// The next tokens of one sequence in a step: the last committed one, and a chain of drafts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChainRows<'a> {
    /// Its place in the batch.
    pub sequence: u32,
    /// Its keys in the cache.
    pub past: u32,
    /// The tokens.
    pub tokens: &'a [u32],
}

/// Kernels that decode several sequences at once.
#[derive(Debug)]
pub(crate) struct BatchDecoder {
    each: u32, // most rows of a sequence
    step: StepBuffer,
    lengths: Buffer, // [sequence] of rows, past, rows before, and keys before, of a contiguous cache
    tokens: Buffer,  // [row]
    embed: Embed,
    layers: Vec<Layer>,
    head: Head,
    cache: KvCache,
}

/// A [`BatchDecoder`] in the making: the layers come one after the other, as their weights do.
pub(super) struct BatchBuilder {
    each: u32,
    step: StepBuffer,
    lengths: Buffer,
    tokens: Buffer,
    depth: Buffer, // [row of a sequence]: a chain's
    activations: Activations,
    cache: KvCache,
    plans: Plans,
    layers: Vec<Layer>,
}

impl BatchBuilder {
    /// Buffers, cache and attention of `options.sequences` sequences; `None` for one.
    pub async fn new(
        gpu: &Gpu,
        h: &Hyperparameters,
        options: &DecoderOptions,
        apart: bool,
    ) -> Result<Option<Self>, LoadError> {
        if options.sequences <= 1 {
            return Ok(None);
        }
        let (sequences, each) = (options.sequences, options.max_draft + 1);
        let limit = MAX_BATCH_ROWS / each.max(1);
        if sequences > limit {
            return Err(LoadError::Sequences {
                given: sequences,
                most: limit,
                draft: options.max_draft,
            });
        }
        let rows = sequences * each;
        let shape = CacheShape::new(h.block_count, h.head_count_kv, h.key_length, options.cache);
        let cache = match options.page {
            None => KvCache::contiguous(gpu, shape, sequences, options.context)?,
            Some(page_tokens) => {
                let pages = sequences * options.context.div_ceil(page_tokens.max(1));
                let pool = PoolOptions { page_tokens, pages };
                KvCache::paged(gpu, shape, sequences, options.context, pool)?
            }
        };
        let depth: Vec<u32> = (0..rows).collect();
        Ok(Some(Self {
            each,
            step: StepBuffer::new(gpu, rows, 0)?,
            lengths: gpu.storage("lengths", u64::from(sequences) * 16)?,
            tokens: gpu.storage("tokens", u64::from(rows) * 4)?,
            depth: gpu.storage_with("depth", &depth)?,
            activations: Activations::new(gpu, h, rows, apart)?,
            plans: Plans::prepare_batch(gpu, h, &cache, each).await?,
            cache,
            layers: Vec::new(),
        }))
    }

    /// Binds layer `i`; `blob` is the decoder's, of which nothing is read.
    pub async fn add_layer(
        &mut self,
        gpu: &Gpu,
        h: &Hyperparameters,
        i: u32,
        weights: &LayerWeights,
        rope: (RopeShape, &Buffer),
        blob: &Buffer,
    ) -> Result<(), LoadError> {
        let stack = Stack {
            gpu,
            h,
            step: &self.step,
            activations: &self.activations,
            cache: &self.cache,
            plans: &self.plans,
            rope: rope.0,
            table: rope.1,
            blob,
            rows: self.activations.rows,
            depth: BufferView::whole(&self.depth),
        };
        let lengths = BufferView::whole(&self.lengths);
        let layer = stack.layer_over(i, weights, lengths).await?;
        self.layers.push(layer);
        Ok(())
    }

    /// Binds embedding and head.
    pub async fn finish(
        self,
        gpu: &Gpu,
        h: &Hyperparameters,
        embedding: &Matrix,
        norm: &Buffer,
        head: &[Matrix],
    ) -> Result<BatchDecoder, LoadError> {
        let (step, activations) = (self.step, self.activations);
        let rows = activations.rows;
        let tokens = BufferView::whole(&self.tokens);
        let residual = BufferView::whole(&activations.residual);
        let row = stride(h.embedding_length);
        Ok(BatchDecoder {
            embed: Embed::new(gpu, embedding, &step, tokens, residual, row).await?,
            head: Head::new(gpu, h, &step, &activations, norm, head, rows).await?,
            each: self.each,
            lengths: self.lengths,
            tokens: self.tokens,
            layers: self.layers,
            cache: self.cache,
            step,
        })
    }
}

/// Most rows of a step: more make no step cheaper by the token.
const MAX_BATCH_ROWS: u32 = 1024;

impl BatchDecoder {
    /// Sequences there is room for.
    pub fn sequences(&self) -> u32 {
        self.cache.sequences()
    }

    /// Most tokens of one sequence in a step.
    pub fn each(&self) -> u32 {
        self.each
    }

    /// The cache.
    pub fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// Logits of the last step, `[chain, each, vocabulary]` of f32, `each` as it was given to
    /// [`set_step`](Self::set_step).
    pub fn logits(&self) -> &Buffer {
        self.head.logits()
    }

    /// Says what the next submission computes: `chains`, each of at most `each` tokens. No sequence may have two.
    pub fn set_step(&self, gpu: &Gpu, each: u32, chains: &[ChainRows<'_>]) {
        // Pages are found through their table, and no token was evicted.
        let capacity = match self.cache.pool() {
            Some(_) => 0,
            None => self.cache.capacity(),
        };
        let mut lengths: Vec<[u32; 4]> = (0..self.sequences())
            .map(|sequence| [0, 0, 0, sequence * capacity])
            .collect();
        let mut tokens = vec![0; chains.len() * each as usize];
        let mut first = 0;
        for (chain, row) in chains.iter().zip(tokens.chunks_mut(each.max(1) as usize)) {
            let count = chain.tokens.len().min(row.len());
            row[..count].copy_from_slice(&chain.tokens[..count]);
            if let Some(own) = lengths.get_mut(chain.sequence as usize) {
                own[..3].copy_from_slice(&[count as u32, chain.past, first]);
            }
            first += each;
        }
        let queue = gpu.queue();
        queue.write_buffer(&self.lengths, 0, bytemuck::cast_slice(&lengths));
        queue.write_buffer(&self.tokens, 0, bytemuck::cast_slice(&tokens));
        self.step.set_rows(gpu, tokens.len() as u32);
    }

    /// Records the step, up to its logits: of `chains` chains, `each` rows apart, with at most `keys` keys in one
    /// sequence after it.
    pub fn encode(&self, pass: &mut ComputePass<'_>, chains: u32, each: u32, keys: u32) {
        let rows = chains * each;
        self.embed.encode(pass, rows);
        for layer in &self.layers {
            layer.encode_batch(pass, rows, each, keys, StepKind::Chain);
        }
        self.head.encode(pass, rows);
    }
}
