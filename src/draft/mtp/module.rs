//! The module's kernels, bound to its own cache and to the target's features.

use wgpu::{Buffer, CommandEncoder, ComputePass};

use crate::{
    cache::{CacheShape, KvCache, RopeShape},
    draft::{
        DrafterLoadError,
        kernels::{Choose, Gather},
        weights::WeightFile,
    },
    gpu::{BufferView, Gpu},
    model::{
        Decoder, Gguf, Hyperparameters, LoadError, StepKind, WeightLoader, WeightSource,
        parts::{
            Activations, GateUpWeights, Layer, LayerWeights, Plans, Stack, linears, rope_table,
            stride,
        },
    },
    ops::{
        Argmax, Embed, Epilogue, Linear, LinearIo, Matrix, RmsNorm, RmsNormIo, Rows, StepBuffer,
    },
    tree,
};

/// Steps of one draft that the script of step sizes has room for.
pub(super) const MAX_STEPS: usize = 64;

#[derive(Debug)]
pub(super) struct Module {
    step: StepBuffer,
    script: Buffer, // [step] of a `StepBuffer`'s words
    index: Buffer,  // [row]: rows of the target's features
    tokens: Buffer, // [row]: the token after each
    hidden: Buffer, // [row, stride]: the input feature
    gather: Gather,
    embed: Embed,
    hidden_norm: RmsNorm,
    embed_norm: RmsNorm,
    hidden_projection: Linear,
    embed_projection: Linear,
    layer: Layer,
    output: Buffer, // [row, stride]: the output feature
    output_norm: RmsNorm,
    head: Vec<Linear>,
    argmax: Argmax,
    choose: Choose,
    chosen: Buffer,
    blob: Buffer, // the target's; its first field is the tokens
    row_bytes: u64,
}

fn layer_weights(
    file: &WeightFile<'_>,
    h: &Hyperparameters,
) -> Result<LayerWeights, DrafterLoadError> {
    let (width, ff) = (h.embedding_length, h.feed_forward_length);
    let query = h.head_count * h.key_length;
    let kv = h.head_count_kv * h.key_length;
    let qkv = [
        ("mtp.attn_q.weight", query),
        ("mtp.attn_k.weight", kv),
        ("mtp.attn_v.weight", kv),
    ];
    let (gate, up) = ("mtp.ffn_gate.weight", "mtp.ffn_up.weight");
    Ok(LayerWeights {
        attention_norm: file.vector("mtp.attn_norm.weight", width)?,
        qkv: vec![file.stacked(&qkv, width)?],
        biases: None,
        head_norms: None,
        attention_output: vec![file.stacked(&[("mtp.attn_output.weight", width)], query)?],
        feed_forward_norm: file.vector("mtp.ffn_norm.weight", width)?,
        gate_up: GateUpWeights::Fused(file.gate_up(gate, up, ff, width)?),
        down: vec![file.stacked(&[("mtp.ffn_down.weight", width)], ff)?],
    })
}

impl Module {
    /// Loads and binds; `vocabulary` lists the tokens that can be drafted.
    pub async fn new<S: WeightSource>(
        gpu: &Gpu,
        decoder: &Decoder,
        gguf: &Gguf,
        source: &mut S,
        file: &WeightFile<'_>,
        vocabulary: &[u32],
    ) -> Result<Self, DrafterLoadError> {
        let h = decoder.hyperparameters();
        let (rows, context) = (decoder.options().prompt_rows, decoder.options().context);
        let width = h.embedding_length;
        let padded = stride(width);
        let view = BufferView::whole;

        // Weights first: a file that does not fit says so before anything is allocated for it.
        let weights = layer_weights(file, h)?;
        let projection = |first| {
            let shape = [width, 2 * width];
            file.columns("mtp.proj.weight", shape, first, width)
        };
        let (of_hidden, of_embedding) = (projection(0)?, projection(width)?);
        let hidden_weight = file.vector("mtp.hidden_norm.weight", width)?;
        let embed_weight = file.vector("mtp.embed_norm.weight", width)?;
        let output_weight = file.vector("mtp.output_norm.weight", width)?;
        let head = head_rows(gpu, gguf, source, vocabulary).await?;

        let step = StepBuffer::new(gpu, 1, 0)?;
        let one_row = StepBuffer::new(gpu, 1, 0)?;
        let row_bytes = u64::from(padded) * 4;
        let hidden = gpu.storage("draft feature", u64::from(rows) * row_bytes)?;
        let tokens = gpu.storage("draft tokens", u64::from(rows) * 4)?;
        let index = gpu.storage("kept rows", u64::from(rows) * 4)?;
        let depths: Vec<u32> = (0..rows).collect();
        let depths = gpu.storage_with("depths", &depths)?;
        let activations = Activations::new(gpu, h, rows, false)?;
        // The module's own step never has branches.
        let no_tree = gpu.storage("no tree", tree::blob_words(rows as usize) as u64 * 4)?;
        let shape = CacheShape::new(1, h.head_count_kv, h.key_length, decoder.options().cache);
        let cache = KvCache::contiguous(gpu, shape, 1, context).map_err(LoadError::from)?;
        let rope = RopeShape {
            rotated: h.rope_dimension_count,
            pairs: h.architecture.rope_pairs(),
        };
        // The module's row of position t stands for the token at t + 1.
        let divisors = match h.divisor_tensor(context) {
            Some(tensor) => {
                let progress = &mut |_, _| ();
                let mut loader = WeightLoader::new(gpu, gguf, source, progress);
                loader.values(tensor).await?
            }
            None => Vec::new(),
        };
        let table = rope_table(gpu, h, &rope, &divisors, 1..context + 1)?;
        let plans = Plans::prepare(gpu, h, &cache, rows).await?;
        let stack = Stack {
            gpu,
            h,
            step: &step,
            activations: &activations,
            cache: &cache,
            plans: &plans,
            rope,
            table: &table,
            blob: &no_tree,
            depth: view(&depths),
        };
        let layer = stack.layer(0, &weights).await?;

        let norm = async |x, weight, which: Rows| {
            let io = RmsNormIo {
                x,
                weight,
                y: view(&activations.normed),
                width,
                stride: padded,
            };
            RmsNorm::new(gpu, &step, &io, h.rms_epsilon, which).await
        };
        let projected = LinearIo {
            x: view(&activations.normed),
            x_stride: padded,
            y: view(&activations.residual),
            y_stride: padded,
            y_offset: 0,
        };
        let ids = vocabulary.len() as u32;
        let logits = gpu.storage("draft logits", u64::from(ids) * 4)?;
        let candidates = u64::from(Argmax::blocks(ids)) * Argmax::CANDIDATE_BYTES;
        let candidates = gpu.storage("draft candidates", candidates)?;
        let chosen = gpu.storage("drafted token", 4)?;
        let token_of = gpu.storage_with("draft vocabulary", vocabulary)?;
        let head_io = LinearIo {
            x: view(&activations.normed),
            x_stride: padded,
            y: view(&logits),
            y_stride: ids,
            y_offset: 0,
        };
        // The embedding has a buffer of its own: a row of an unknown token is left as it was.
        let embedded = gpu.storage("draft embedding", u64::from(rows) * row_bytes)?;
        let (x, y) = (view(decoder.features()), view(&hidden));
        Ok(Self {
            script: gpu.storage("draft steps", MAX_STEPS as u64 * StepBuffer::SIZE)?,
            gather: Gather::new(gpu, &step, view(&index), x, y, padded).await?,
            embed: Embed::new(
                gpu,
                decoder.embedding(),
                &step,
                view(&tokens),
                view(&embedded),
                padded,
            )
            .await?,
            hidden_norm: norm(view(&hidden), view(&hidden_weight), Rows::All).await?,
            embed_norm: norm(view(&embedded), view(&embed_weight), Rows::All).await?,
            hidden_projection: Linear::new(gpu, &of_hidden, Epilogue::Assign, &step, &projected)
                .await?,
            embed_projection: Linear::new(gpu, &of_embedding, Epilogue::Add, &step, &projected)
                .await?,
            layer,
            output_norm: norm(
                view(&activations.residual),
                view(&output_weight),
                Rows::Last,
            )
            .await?,
            output: activations.residual.clone(),
            head: linears(gpu, &[head], Epilogue::Assign, &one_row, &head_io).await?,
            argmax: Argmax::new(gpu, ids, &one_row, view(&logits), view(&candidates)).await?,
            choose: Choose::new(gpu, ids, view(&candidates), view(&token_of), view(&chosen))
                .await?,
            chosen,
            blob: decoder.tree().clone(),
            step,
            index,
            tokens,
            hidden,
            row_bytes,
        })
    }

    /// Records the keys of the positions from `position` on, whose features are the target's `rows` and
    /// which `tokens` follow, then a chain of `depth` tokens, written into nodes 1, 2, ... of the
    /// target's tree.
    pub fn record(
        &self,
        gpu: &Gpu,
        encoder: &mut CommandEncoder,
        rows: &[u32],
        tokens: &[u32],
        position: u32,
        depth: u32,
    ) {
        let count = rows.len() as u32;
        let depth = depth.min(MAX_STEPS as u32);
        let past = position + count; // after the first pass
        let mut script = vec![[count, position, 0, 0]];
        script.extend((0..depth.saturating_sub(1)).map(|i| [1, past + i, 0, 0]));
        let queue = gpu.queue();
        queue.write_buffer(&self.script, 0, bytemuck::cast_slice(script.as_flattened()));
        queue.write_buffer(&self.index, 0, bytemuck::cast_slice(rows));
        queue.write_buffer(&self.tokens, 0, bytemuck::cast_slice(tokens));

        for (i, [rows, past, ..]) in script.into_iter().enumerate() {
            let at = i as u64 * StepBuffer::SIZE;
            let step = self.step.buffer();
            encoder.copy_buffer_to_buffer(&self.script, at, step, 0, StepBuffer::SIZE);
            {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                if i == 0 {
                    self.gather.encode(&mut pass, rows);
                }
                self.encode_layer(&mut pass, rows, past + rows);
                if depth > 0 {
                    self.encode_head(&mut pass);
                }
            }
            if depth > 0 {
                let node = 4 * (i as u64 + 1);
                encoder.copy_buffer_to_buffer(&self.chosen, 0, &self.blob, node, 4);
                encoder.copy_buffer_to_buffer(&self.chosen, 0, &self.tokens, 0, 4);
                let last = u64::from(rows - 1) * self.row_bytes;
                let (from, to) = (&self.output, &self.hidden);
                encoder.copy_buffer_to_buffer(from, last, to, 0, self.row_bytes);
            }
        }
    }

    fn encode_layer(&self, pass: &mut ComputePass<'_>, rows: u32, keys: u32) {
        self.hidden_norm.encode(pass, rows);
        self.hidden_projection.encode(pass, rows);
        self.embed.encode(pass, rows);
        self.embed_norm.encode(pass, rows);
        self.embed_projection.encode(pass, rows);
        self.layer.encode(pass, rows, keys, StepKind::Prompt);
    }

    /// The token after the last row's.
    fn encode_head(&self, pass: &mut ComputePass<'_>) {
        self.output_norm.encode(pass, 1);
        for linear in &self.head {
            linear.encode(pass, 1);
        }
        self.argmax.encode(pass, 1);
        self.choose.encode(pass);
    }
}

/// The rows of the model's head that belong to the tokens `vocabulary`.
async fn head_rows<S: WeightSource>(
    gpu: &Gpu,
    gguf: &Gguf,
    source: &mut S,
    vocabulary: &[u32],
) -> Result<Matrix, LoadError> {
    let name = match gguf.find_tensor("output.weight") {
        Some(_) => "output.weight",
        None => "token_embd.weight",
    };
    WeightLoader::new(gpu, gguf, source, &mut |_, _| ())
        .picked(name, vocabulary)
        .await
}
