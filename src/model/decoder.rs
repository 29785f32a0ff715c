//! A Llama-family decoder: the kernels of all layers bound to one set of buffers, recorded as
//! one step.

use std::io::{Read, Seek};

use wgpu::{Buffer, ComputePass};

use super::{
    Gguf, Hyperparameters, LoadError, ReaderSource, WeightSource, paging::Paging,
    weights::WeightLoader,
};
use crate::{
    attention::{
        Attention, AttentionIo, AttentionProblem, Element, Mask, PreparedAttention, TensorLayout,
    },
    cache::{
        Append, AppendIo, AppendShape, CacheShape, Commit, KvCache, PoolOptions, RopePairs,
        RopeShape,
    },
    gpu::{BufferView, Gpu},
    ops::{
        Argmax, Embed, Epilogue, Linear, LinearIo, Matrix, RmsNorm, RmsNormIo, Rows, StepBuffer,
        SwiGlu,
    },
    tree::{self, BlobField},
    verify::GreedyVerifier,
};

/// How a decoder is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecoderOptions {
    /// Tokens a sequence may have: prompt, output and drafts together.
    pub context: u32,
    /// Rows computed at once while the prompt is read, at least `max_draft + 1`; rounded up to a
    /// multiple of 64.
    pub prompt_rows: u32,
    /// Most drafted tokens in one step.
    pub max_draft: u32,
    /// Element type of the cache.
    pub cache: Element,
    /// Tokens of a page of the cache, a power of 2 from 16 to 256; `None` for a contiguous cache.
    pub page: Option<u32>,
}

impl Default for DecoderOptions {
    /// 2,048 tokens of context, prompts in steps of 128, up to 15 drafted tokens, contiguous f32 cache.
    fn default() -> Self {
        Self {
            context: 2048,
            prompt_rows: 128,
            max_draft: 15,
            cache: Element::F32,
            page: None,
        }
    }
}

/// What a step is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// Part of a prompt that more of it follows: only keys and values are wanted.
    Prompt,
    /// The last part of a prompt: the next token is wanted.
    LastPrompt,
    /// The last committed token and a draft that is a chain.
    Chain,
    /// The last committed token and a draft with branches.
    Tree,
}

#[derive(Debug)]
struct Layer {
    attention_norm: RmsNorm,
    qkv: Vec<Linear>,
    append: Append,
    prompt: Attention,
    chain: Attention,
    tree: Attention,
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

/// A decoder on the GPU, with its cache, for one sequence.
#[derive(Debug)]
pub struct Decoder {
    hyperparameters: Hyperparameters,
    options: DecoderOptions,
    step: StepBuffer,
    blob: Buffer,
    embed: Embed,
    layers: Vec<Layer>,
    output_norm: RmsNorm,
    output_norm_last: RmsNorm,
    head: Vec<Linear>,
    head_last: Vec<Linear>,
    argmax: Argmax,
    argmax_last: Argmax,
    verifier: GreedyVerifier,
    cache: KvCache,
    paging: Option<Paging>, // of an empty sequence
    commit: Commit,
    logits: Buffer,
    bytes: u64,
}

/// Activation buffers, shared by all layers.
struct Activations {
    residual: Buffer,     // [row, width]
    normed: Buffer,       // [row, width]
    qkv: Buffer,          // [row, q heads + 2 kv heads, head_dim]
    attended: Buffer,     // [row, q head, head_dim]
    gate: Option<Buffer>, // [row, feed forward], where gate and up are apart
    feed_forward: Buffer, // [row, feed forward]
}

/// f32s of a row that holds `width` values and is read in blocks of 32.
fn stride(width: u32) -> u32 {
    width.next_multiple_of(32)
}

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
        let h = Hyperparameters::from_gguf(gguf)?;
        h.check_tensors(gguf)?;
        gguf.check_kernels()?;
        let options = DecoderOptions {
            context: options.context.clamp(1, h.context_length),
            prompt_rows: options
                .prompt_rows
                .max(options.max_draft + 1)
                .next_multiple_of(64),
            ..options
        };
        let rows = options.prompt_rows;
        let draft_rows = options.max_draft + 1;
        let step = StepBuffer::new(gpu, 1, 0)?;
        let one_row = StepBuffer::new(gpu, 1, 0)?;
        let blob = gpu.storage("tree", tree::blob_words(rows as usize) as u64 * 4)?;
        let field = |field: BlobField| {
            let offset = tree::field_offset(field, rows as usize) as u64 * 4;
            BufferView::range(&blob, offset, u64::from(rows) * 4)
        };
        let (tokens, depth) = (field(BlobField::Token), field(BlobField::Depth));

        let buffer = |label: &str, rows: u32, width: u32| {
            gpu.storage(label, u64::from(rows) * u64::from(width) * 4)
        };
        let (width, feed_forward) = (h.embedding_length, h.feed_forward_length);
        let query_width = h.head_count * h.key_length;
        let qkv_width = query_width + 2 * h.head_count_kv * h.key_length;
        let apart = (0..h.block_count).any(|i| {
            let kind = |name: &str| gguf.find_tensor(&block(i, name)).map(|t| t.kind);
            kind("ffn_gate") != kind("ffn_up")
        });
        let activations = Activations {
            residual: buffer("residual", rows, stride(width))?,
            normed: buffer("normed", rows, stride(width))?,
            qkv: buffer("qkv", rows, qkv_width)?,
            attended: buffer("attended", rows, stride(query_width))?,
            gate: match apart {
                true => Some(buffer("gate", rows, stride(feed_forward))?),
                false => None,
            },
            feed_forward: buffer("feed forward", rows, stride(feed_forward))?,
        };
        let logits = buffer("logits", draft_rows, h.vocabulary)?;
        let candidates = gpu.storage(
            "argmax candidates",
            u64::from(draft_rows * Argmax::blocks(h.vocabulary)) * Argmax::CANDIDATE_BYTES,
        )?;

        let shape = CacheShape::new(h.block_count, h.head_count_kv, h.key_length, options.cache);
        let cache = match options.page {
            None => KvCache::contiguous(gpu, shape, 1, options.context)?,
            Some(page_tokens) => {
                let pages = options.context.div_ceil(page_tokens.max(1));
                let pool = PoolOptions { page_tokens, pages };
                KvCache::paged(gpu, shape, 1, options.context, pool)?
            }
        };
        let rope = RopeShape {
            rotated: h.rope_dimension_count,
            pairs: RopePairs::Interleaved,
        };
        let base = f64::from(h.rope_freq_base);
        let table = rope.table(options.context, base, f64::from(h.rope_scale));
        let table = gpu.storage_with("rope table", table.as_flattened())?;
        let prompt_plan = plan(gpu, &h, &cache, rows, Mask::Causal, false).await?;
        let chain_plan = plan(gpu, &h, &cache, rows, Mask::Causal, true).await?;
        let mask = Mask::Tree { max_nodes: rows };
        let tree_plan = plan(gpu, &h, &cache, rows, mask, true).await?;
        // The layers and the kinds of steps share one workspace: that of the plan that needs most.
        let largest = [&prompt_plan, &chain_plan, &tree_plan]
            .into_iter()
            .max_by_key(|prepared| prepared.plan().workspace_bytes())
            .unwrap_or(&chain_plan);
        let workspace = largest.workspace()?;

        let mut loader = WeightLoader::new(gpu, gguf, source, progress);
        let embedding = loader.stacked(&["token_embd.weight".to_owned()]).await?;
        let mut layers = Vec::new();
        for i in 0..h.block_count {
            let builder = LayerBuilder {
                gpu,
                h: &h,
                step: &step,
                activations: &activations,
            };
            let layer = builder
                .build(i, &mut loader, &rope, &cache, depth, &table, |io| {
                    let tree = Some(BufferView::whole(&blob));
                    Ok([
                        prompt_plan.bind(&workspace, &io)?,
                        chain_plan.bind(&workspace, &io)?,
                        tree_plan.bind(&workspace, &AttentionIo { tree, ..io })?,
                    ])
                })
                .await?;
            layers.push(layer);
        }
        let norm_weight = loader.vector("output_norm.weight").await?;
        // Without a head of its own the model uses the embedding matrix (tied weights).
        let head = match gguf.find_tensor("output.weight") {
            Some(_) => loader.stacked(&["output.weight".to_owned()]).await?,
            None => embedding.clone(),
        };

        let norm_io = RmsNormIo {
            x: BufferView::whole(&activations.residual),
            weight: BufferView::whole(&norm_weight),
            y: BufferView::whole(&activations.normed),
            width,
            stride: stride(width),
        };
        let head_io = LinearIo {
            x: BufferView::whole(&activations.normed),
            x_stride: stride(width),
            y: BufferView::whole(&logits),
            y_stride: h.vocabulary,
            y_offset: 0,
        };
        let whole_logits = BufferView::whole(&logits);
        let whole_candidates = BufferView::whole(&candidates);
        let argmax = async |step: &StepBuffer| {
            Argmax::new(gpu, h.vocabulary, step, whole_logits, whole_candidates).await
        };
        let epsilon = h.rms_epsilon;
        let [embedding] = embedding.as_slice() else {
            return Err(LoadError::Empty);
        };
        let verifier = GreedyVerifier::new(
            gpu,
            &step,
            BufferView::whole(&blob),
            whole_candidates,
            rows,
            draft_rows,
            h.vocabulary,
        )
        .await?;
        let residual = BufferView::whole(&activations.residual);
        let decoder = Self {
            embed: Embed::new(gpu, embedding, &step, tokens, residual, stride(width)).await?,
            layers,
            output_norm: RmsNorm::new(gpu, &step, &norm_io, epsilon, Rows::All).await?,
            output_norm_last: RmsNorm::new(gpu, &step, &norm_io, epsilon, Rows::Last).await?,
            head: linears(gpu, &head, Epilogue::Assign, &step, &head_io).await?,
            head_last: linears(gpu, &head, Epilogue::Assign, &one_row, &head_io).await?,
            argmax: argmax(&step).await?,
            argmax_last: argmax(&one_row).await?,
            commit: Commit::new(gpu, &cache, step.view(), verifier.outcome(), 0, rows).await?,
            paging: Paging::new(&cache)?,
            cache,
            verifier,
            bytes: gpu.allocated_bytes() - allocated_before,
            logits,
            step,
            blob,
            options,
            hyperparameters: h,
        };
        gpu.queue().submit([]);
        Ok(decoder)
    }

    /// The cache.
    pub fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// The accounts of an empty sequence, where the cache has pages.
    pub(crate) fn paging(&self) -> Option<Paging> {
        self.paging.clone()
    }

    /// The model's hyperparameters.
    pub fn hyperparameters(&self) -> &Hyperparameters {
        &self.hyperparameters
    }

    /// The options, as they were adjusted to the model.
    pub fn options(&self) -> &DecoderOptions {
        &self.options
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
        &self.logits
    }

    /// Records a whole step of `rows` rows, with at most `keys` keys in the cache after it: from
    /// the tokens in the tree blob to outcome and committed length. The step buffer must say the
    /// same number of rows.
    pub fn encode(&self, pass: &mut ComputePass<'_>, rows: u32, keys: u32, kind: StepKind) {
        self.embed.encode(pass, rows);
        for layer in &self.layers {
            layer.encode(pass, rows, keys, kind);
        }
        match kind {
            StepKind::Prompt => {}
            StepKind::LastPrompt => {
                self.output_norm_last.encode(pass, 1);
                for head in &self.head_last {
                    head.encode(pass, 1);
                }
                self.argmax_last.encode(pass, 1);
                self.verifier.encode_prompt(pass);
            }
            StepKind::Chain | StepKind::Tree => {
                self.output_norm.encode(pass, rows);
                for head in &self.head {
                    head.encode_few(pass, rows);
                }
                self.argmax.encode(pass, rows);
                self.verifier.encode(pass);
            }
        }
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

impl Layer {
    fn encode(&self, pass: &mut ComputePass<'_>, rows: u32, keys: u32, kind: StepKind) {
        // A drafted token must get the bits that decoding it would have given.
        let run = |linear: &Linear, pass: &mut ComputePass<'_>| match kind {
            StepKind::Prompt | StepKind::LastPrompt => linear.encode(pass, rows),
            StepKind::Chain | StepKind::Tree => linear.encode_few(pass, rows),
        };
        self.attention_norm.encode(pass, rows);
        for linear in &self.qkv {
            run(linear, pass);
        }
        self.append.encode(pass, rows);
        match kind {
            StepKind::Tree => self.tree.encode(pass, rows, keys),
            StepKind::Chain => self.chain.encode(pass, rows, keys),
            _ => self.prompt.encode(pass, rows, keys),
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

/// Name of a tensor of block `i`.
fn block(i: u32, name: &str) -> String {
    format!("blk.{i}.{name}.weight")
}

/// One linear layer a matrix, their results side by side.
async fn linears(
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

async fn plan(
    gpu: &Gpu,
    h: &Hyperparameters,
    cache: &KvCache,
    rows: u32,
    mask: Mask,
    invariant: bool,
) -> Result<PreparedAttention, LoadError> {
    let (heads, kv_heads, dim) = (h.head_count, h.head_count_kv, h.key_length);
    let mut problem = AttentionProblem::new(heads, kv_heads, dim, rows, cache.capacity())
        .with_cache(cache.layout());
    // Queries stay where the projection put them, before the keys and values of their row.
    problem.query.token_stride = (heads + 2 * kv_heads) * dim;
    problem.output = TensorLayout {
        token_stride: stride(h.head_count * dim),
        ..TensorLayout::token_major(Element::F32, rows, h.head_count, dim)
    };
    problem.mask = mask;
    problem.invariant = invariant;
    Ok(gpu.plan_attention(&problem)?.prepare().await?)
}

/// What all layers share while they are built.
struct LayerBuilder<'a> {
    gpu: &'a Gpu,
    h: &'a Hyperparameters,
    step: &'a StepBuffer,
    activations: &'a Activations,
}

impl LayerBuilder<'_> {
    #[allow(clippy::too_many_arguments)]
    async fn build<S: WeightSource>(
        &self,
        i: u32,
        loader: &mut WeightLoader<'_, S>,
        rope: &RopeShape,
        cache: &KvCache,
        depth: BufferView<'_>,
        table: &Buffer,
        bind: impl FnOnce(AttentionIo<'_>) -> Result<[Attention; 3], LoadError>,
    ) -> Result<Layer, LoadError> {
        let (gpu, h, step, a) = (self.gpu, self.h, self.step, self.activations);
        let name = |name: &str| block(i, name);
        let (width, ff) = (h.embedding_length, h.feed_forward_length);
        let query_width = h.head_count * h.key_length;
        let view = BufferView::whole;

        let attention_weight = loader.vector(&name("attn_norm")).await?;
        let qkv = loader
            .stacked(&[name("attn_q"), name("attn_k"), name("attn_v")])
            .await?;
        let attention_output = loader.stacked(&[name("attn_output")]).await?;
        let feed_forward_weight = loader.vector(&name("ffn_norm")).await?;
        let fused = loader.gate_up(&name("ffn_gate"), &name("ffn_up")).await?;
        let apart = match fused {
            Some(_) => None,
            None => Some((
                loader.stacked(&[name("ffn_gate")]).await?,
                loader.stacked(&[name("ffn_up")]).await?,
            )),
        };
        let down = loader.stacked(&[name("ffn_down")]).await?;

        let (Some(key), Some(value)) = (cache.keys(i), cache.values(i)) else {
            return Err(LoadError::Empty);
        };
        let norm_io = |weight| RmsNormIo {
            x: view(&a.residual),
            weight,
            y: view(&a.normed),
            width,
            stride: stride(width),
        };
        let from_normed = |y, y_stride| LinearIo {
            x: view(&a.normed),
            x_stride: stride(width),
            y,
            y_stride,
            y_offset: 0,
        };
        let to_residual = |x, x_stride| LinearIo {
            x,
            x_stride,
            y: view(&a.residual),
            y_stride: stride(width),
            y_offset: 0,
        };
        let qkv_io = from_normed(
            view(&a.qkv),
            query_width + 2 * h.head_count_kv * h.key_length,
        );
        let ff_io = from_normed(view(&a.feed_forward), stride(ff));
        let append_shape = AppendShape {
            query_heads: h.head_count,
            rope: *rope,
            row_stride: 0,
            depth_stride: 0,
            max_rows: (a.qkv.size() / 4) as u32
                / (query_width + 2 * h.head_count_kv * h.key_length),
        };
        let append_io = AppendIo {
            sequences: step.view(),
            depth,
            table: view(table),
            x: view(&a.qkv),
        };
        let [prompt, chain, tree] = bind(AttentionIo {
            query: view(&a.qkv),
            key,
            value,
            output: view(&a.attended),
            lse: None,
            bias: None,
            lengths: step.view(),
            tree: None,
            pages: cache.page_table(),
        })?;
        let gate_up = match (&fused, &apart, &a.gate) {
            (Some(matrix), _, _) => {
                GateUp::Fused(Linear::new(gpu, matrix, Epilogue::SwiGlu, step, &ff_io).await?)
            }
            (None, Some((gate, up)), Some(buffer)) => {
                let gate_io = from_normed(view(buffer), stride(ff));
                let up_view = view(&a.feed_forward);
                GateUp::Apart {
                    gate: linears(gpu, gate, Epilogue::Assign, step, &gate_io).await?,
                    up: linears(gpu, up, Epilogue::Assign, step, &ff_io).await?,
                    activation: SwiGlu::new(gpu, step, view(buffer), up_view, ff, stride(ff))
                        .await?,
                }
            }
            _ => return Err(LoadError::Empty),
        };
        let epsilon = h.rms_epsilon;
        let attended_io = to_residual(view(&a.attended), stride(query_width));
        let down_io = to_residual(view(&a.feed_forward), stride(ff));
        let attention_norm = norm_io(view(&attention_weight));
        let feed_forward_norm = norm_io(view(&feed_forward_weight));
        Ok(Layer {
            attention_norm: RmsNorm::new(gpu, step, &attention_norm, epsilon, Rows::All).await?,
            qkv: linears(gpu, &qkv, Epilogue::Assign, step, &qkv_io).await?,
            append: Append::new(gpu, cache, i, &append_shape, &append_io).await?,
            prompt,
            chain,
            tree,
            attention_output: linears(gpu, &attention_output, Epilogue::Add, step, &attended_io)
                .await?,
            feed_forward_norm: RmsNorm::new(gpu, step, &feed_forward_norm, epsilon, Rows::All)
                .await?,
            gate_up,
            down: linears(gpu, &down, Epilogue::Add, step, &down_io).await?,
        })
    }
}
