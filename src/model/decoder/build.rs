//! From a file to a decoder that is ready to run.

use std::io::{Read, Seek};

use wgpu::Buffer;

use super::{
    Decoder, DecoderOptions,
    activations::{Activations, stride},
    batch::BatchBuilder,
    head::Head,
    layer::Stack,
    layer_weights::{LayerWeights, block},
    plans::Plans,
};
use crate::{
    cache::{CacheShape, Commit, KvCache, PoolOptions, RopeShape},
    gpu::{BufferView, Gpu},
    model::{
        Gguf, Hyperparameters, LoadError, ReaderSource, WeightSource, paging::Paging,
        weights::WeightLoader,
    },
    ops::{Embed, StepBuffer},
    tree::{self, BlobField},
    verify::GreedyVerifier,
};

impl Decoder {
    /// Loads the weights of `gguf` from `reader` onto the GPU and binds the kernels. `progress`
    /// is called with bytes read so far and bytes in all.
    ///
    /// # Errors
    /// [`LoadError`] for a model this decoder can't run, a file that can't be read, or a device
    /// that is too small.
    pub async fn load<R: Read + Seek>(
        gpu: &Gpu,
        gguf: &Gguf,
        reader: &mut R,
        options: DecoderOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, LoadError> {
        Self::load_from(gpu, gguf, &mut ReaderSource(reader), options, progress).await
    }

    /// As [`Decoder::load`], from a source whose bytes may have to be waited for. At most a few MiB of them
    /// are held on the host at a time.
    ///
    /// # Errors
    /// As [`Decoder::load`].
    pub async fn load_from<S: WeightSource>(
        gpu: &Gpu,
        gguf: &Gguf,
        source: &mut S,
        options: DecoderOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, LoadError> {
        let allocated_before = gpu.allocated_bytes();
        // Kernels compile while weights are read.
        let gpu = &gpu.ahead();
        let h = Hyperparameters::from_gguf(gguf)?;
        h.check_tensors(gguf)?;
        let options = DecoderOptions {
            context: options.context.clamp(1, h.context_length),
            sequences: options.sequences.max(1),
            prompt_rows: options
                .prompt_rows
                .max(options.max_draft + 1)
                .next_multiple_of(64),
            ..options
        };
        let rows = options.prompt_rows;
        let draft_rows = options.max_draft + 1;
        let step = StepBuffer::new(gpu, 1, 0)?;
        let blob = gpu.storage("tree", tree::blob_words(rows as usize) as u64 * 4)?;
        let field = |field: BlobField| {
            let offset = tree::field_offset(field, rows as usize) as u64 * 4;
            BufferView::range(&blob, offset, u64::from(rows) * 4)
        };
        let (tokens, depth) = (field(BlobField::Token), field(BlobField::Depth));

        let apart = (0..h.block_count).any(|i| {
            let kind = |name: &str| gguf.find_tensor(&block(i, name)).map(|t| t.kind);
            kind("ffn_gate") != kind("ffn_up")
        });
        let activations = Activations::new(gpu, &h, rows, apart)?;
        let cache = cache(gpu, &h, &options)?;
        let rope = RopeShape {
            rotated: h.rope_dimension_count,
            pairs: h.rope_pairs,
        };
        let plans = Plans::prepare(gpu, &h, &cache, rows).await?;

        let mut loader = WeightLoader::new(gpu, gguf, source, progress);
        let divisors = match h.divisor_tensor(options.context) {
            Some(tensor) => loader.values(tensor).await?,
            None => Vec::new(),
        };
        let table = rope_table(gpu, &h, &rope, &divisors, 0..options.context)?;
        let embedding = loader.stacked(&["token_embd.weight".to_owned()]).await?;
        let stack = Stack {
            gpu,
            h: &h,
            step: &step,
            activations: &activations,
            cache: &cache,
            plans: &plans,
            rope,
            table: &table,
            blob: &blob,
            rows,
            depth,
        };
        let mut batch = BatchBuilder::new(gpu, &h, &options, apart).await?;
        let (mut layers, mut layer_weights) = (Vec::new(), Vec::new());
        for i in 0..h.block_count {
            let weights = LayerWeights::load(i, &h, &mut loader).await?;
            layers.push(stack.layer(i, &weights).await?);
            if let Some(batch) = &mut batch {
                let rope = (rope, &table);
                batch.add_layer(gpu, &h, i, &weights, rope, &blob).await?;
            }
            layer_weights.push(weights);
        }
        let norm_weight = loader.vector("output_norm.weight").await?;
        // Without a head of its own the model uses the embedding matrix (tied weights).
        let head_weights = match gguf.find_tensor("output.weight") {
            Some(_) => loader.stacked(&["output.weight".to_owned()]).await?,
            None => embedding.clone(),
        };
        let head = Head::new(
            gpu,
            &h,
            &step,
            &activations,
            &norm_weight,
            &head_weights,
            draft_rows,
        )
        .await?;
        let [embedding] = embedding.as_slice() else {
            return Err(LoadError::Empty);
        };
        let batch = match batch {
            Some(batch) => {
                let (norm, head) = (&norm_weight, &head_weights);
                Some(batch.finish(gpu, &h, embedding, norm, head).await?)
            }
            None => None,
        };
        let verifier = GreedyVerifier::new(
            gpu,
            &step,
            BufferView::whole(&blob),
            BufferView::whole(head.candidates()),
            rows,
            draft_rows,
            h.vocabulary,
        )
        .await?;
        let residual = BufferView::whole(&activations.residual);
        let residual_stride = stride(h.embedding_length);
        let decoder = Self {
            embed: Embed::new(gpu, embedding, &step, tokens, residual, residual_stride).await?,
            embedding: embedding.clone(),
            residual: activations.residual.clone(),
            layers,
            layer_weights,
            rope,
            rope_table: table,
            head,
            commit: Commit::new(gpu, &cache, step.view(), verifier.outcome(), 0, rows).await?,
            paging: Paging::new(&cache)?,
            cache,
            verifier,
            batch,
            bytes: gpu.allocated_bytes() - allocated_before,
            fingerprint: loader.fingerprint().of_model(&h),
            step,
            blob,
            options,
            hyperparameters: h,
            kernels: gpu.clone(),
        };
        gpu.queue().submit([]);
        gpu.close();
        if !options.lazy_kernels {
            decoder.compiled().await?;
        }
        Ok(decoder)
    }
}

/// The cache that `options` ask for, for one sequence.
fn cache(gpu: &Gpu, h: &Hyperparameters, options: &DecoderOptions) -> Result<KvCache, LoadError> {
    let shape = CacheShape::new(h.block_count, h.head_count_kv, h.key_length, options.cache);
    Ok(match options.page {
        None => KvCache::contiguous(gpu, shape, 1, options.context)?,
        Some(page_tokens) => {
            let pages = options.context.div_ceil(page_tokens.max(1));
            let pool = PoolOptions { page_tokens, pages };
            KvCache::paged(gpu, shape, 1, options.context, pool)?
        }
    })
}

/// `[position, rotated / 2]` of (cos, sin).
pub(crate) fn rope_table(
    gpu: &Gpu,
    h: &Hyperparameters,
    rope: &RopeShape,
    divisors: &[f32],
    positions: std::ops::Range<u32>,
) -> Result<Buffer, LoadError> {
    let base = f64::from(h.rope_freq_base);
    let turns = h.rope_scaling.turns(rope.rotated, base, divisors);
    let table = rope.table_scaled(positions.end, base, &turns.divisors, turns.magnitude);
    let first = (positions.start * rope.rotated / 2) as usize;
    let rows = table.get(first..).unwrap_or(&[]);
    Ok(gpu.storage_with("rope table", rows.as_flattened())?)
}
