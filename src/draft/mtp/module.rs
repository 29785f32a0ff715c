//! The module's kernels, bound to its own cache and to the target's features.

use wgpu::{Buffer, CommandEncoder, ComputePass};

use crate::{
    cache::{CacheShape, KvCache, RopeShape},
    draft::{
        DraftError, DrafterLoadError, Drawing,
        drawing::Spread,
        kernels::{Choose, Gather},
        vocabulary::DraftHead,
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
    ops::{Argmax, Embed, Epilogue, Linear, LinearIo, RmsNorm, RmsNormIo, Rows, StepBuffer},
    tree::{DynamicTree, DynamicTreeIo, DynamicTreeShape},
};

use super::growing::{self, Growing, GrowingIo};

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
    spread: Spread,
    chosen: Buffer,
    blob: Buffer, // the target's; its first field is the tokens
    target: StepBuffer,
    growing: Growing,
    row_bytes: u64,
}

/// What the levels of a tree share with the module.
pub(super) struct Shared<'a> {
    pub gpu: &'a Gpu,
    pub step: &'a StepBuffer,
    pub tokens: &'a Buffer,
    pub output: &'a Buffer,
    pub target: &'a StepBuffer,
    hidden_norm: &'a RmsNorm,
    embed_norm: &'a RmsNorm,
    hidden_projection: &'a Linear,
    embed_projection: &'a Linear,
    embed: &'a Embed,
}

impl Shared<'_> {
    /// Records what comes before the layer: features and tokens become its input.
    pub fn encode_input(&self, pass: &mut ComputePass<'_>, rows: u32) {
        self.hidden_norm.encode(pass, rows);
        self.hidden_projection.encode_few(pass, rows);
        self.embed.encode(pass, rows);
        self.embed_norm.encode(pass, rows);
        self.embed_projection.encode_few(pass, rows);
    }
}

/// Positions that were committed since the module ran last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fresh<'a> {
    /// Rows of the target's features.
    pub rows: &'a [u32],
    /// The token after each.
    pub tokens: &'a [u32],
    /// Key of the module's cache that the first of them gets.
    pub position: u32,
}

/// What to draft after a pass over committed positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Draft {
    Nothing,
    /// So many tokens, one after the other.
    Chain(u32),
    /// A tree of at most so many nodes and levels.
    Tree {
        nodes: u32,
        depth: u32,
    },
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
    /// Loads and binds; `vocabulary` lists the tokens that can be drafted, and `shape` has depth, width, children
    /// and nodes of the largest tree.
    pub async fn new<S: WeightSource>(
        gpu: &Gpu,
        decoder: &Decoder,
        gguf: &Gguf,
        source: &mut S,
        file: &WeightFile<'_>,
        vocabulary: &[u32],
        shape: impl FnOnce(u32) -> DynamicTreeShape,
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
        let head = DraftHead::load(gpu, decoder, gguf, source, vocabulary).await?;
        let tree_shape = shape(head.ids());

        let step = StepBuffer::new(gpu, 1, 0)?;
        let one_row = StepBuffer::new(gpu, 1, 0)?;
        let row_bytes = u64::from(padded) * 4;
        let hidden = gpu.storage("draft feature", u64::from(rows) * row_bytes)?;
        let tokens = gpu.storage("draft tokens", u64::from(rows) * 4)?;
        let index = gpu.storage("kept rows", u64::from(rows) * 4)?;
        let depths: Vec<u32> = (0..rows).collect();
        let depths = gpu.storage_with("depths", &depths)?;
        let activations = Activations::new(gpu, h, rows, false)?;
        let ids = head.ids();
        let logits = u64::from(tree_shape.width) * u64::from(ids) * 4;
        let logits = gpu.storage("draft logits", logits)?;
        let lengths = StepBuffer::new(gpu, 1, 0)?;
        let tree_io = DynamicTreeIo {
            logits: view(&logits),
            tree: view(decoder.tree()),
            lengths: lengths.view(),
            map: Some(&head.map),
        };
        let tree = DynamicTree::new(gpu, &tree_shape, &tree_io).await?;
        let shape = CacheShape::new(1, h.head_count_kv, h.key_length, decoder.options().cache);
        let cache = KvCache::contiguous(gpu, shape, 1, context + tree_shape.drafting_nodes())
            .map_err(LoadError::from)?;
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
        let (tree_rows, mask) = (tree_shape.width, growing::mask(&tree_shape));
        let plans = Plans::prepare_with(gpu, h, &cache, rows, tree_rows, mask).await?;
        let stack = Stack {
            gpu,
            h,
            step: &step,
            activations: &activations,
            cache: &cache,
            plans: &plans,
            rope,
            table: &table,
            blob: tree.drafting(),
            rows,
            depth: view(&depths),
        };
        let layer = stack.layer(0, &weights).await?;
        let levels = Stack {
            rows: tree_shape.width,
            depth: tree.depths(),
            ..stack
        };

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
        let candidates = u64::from(Argmax::blocks(ids)) * Argmax::CANDIDATE_BYTES;
        let candidates = gpu.storage("draft candidates", candidates)?;
        let chosen = gpu.storage("drafted token", 4)?;
        let token_of = gpu.storage_with("draft vocabulary", &head.tokens)?;
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
        let growing_io = GrowingIo {
            stack: levels,
            weights: &weights,
            output_weight: &output_weight,
            head: &head.matrix,
            hidden: &hidden,
            activations: &activations,
        };
        let growing = Growing::new(tree.clone(), lengths, &logits, &growing_io).await?;
        Ok(Self {
            growing,
            target: decoder.step().clone(),
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
            head: linears(gpu, &[head.matrix], Epilogue::Assign, &one_row, &head_io).await?,
            argmax: Argmax::new(gpu, ids, &one_row, view(&logits), view(&candidates)).await?,
            choose: Choose::new(gpu, ids, view(&candidates), view(&token_of), view(&chosen))
                .await?,
            spread: Spread::new(gpu, view(&logits), &head.tokens, h.vocabulary).await?,
            chosen,
            blob: decoder.tree().clone(),
            step,
            index,
            tokens,
            hidden,
            row_bytes,
        })
    }

    /// The largest tree's shape.
    pub fn shape(&self) -> &DynamicTreeShape {
        self.growing.shape()
    }

    /// Records the keys of the fresh positions, then a draft: a chain into nodes 1, 2, ... of the target's tree, through
    /// `drawing` where it is drawn by chance, or a tree in its place.
    pub fn record(
        &mut self,
        gpu: &Gpu,
        encoder: &mut CommandEncoder,
        fresh: Fresh<'_>,
        draft: Draft,
        drawing: Option<&Drawing>,
    ) -> Result<(), DraftError> {
        let Fresh {
            rows,
            tokens,
            position,
        } = fresh;
        let count = rows.len() as u32;
        let chain = match draft {
            Draft::Chain(depth) => depth.min(MAX_STEPS as u32),
            _ => 0,
        };
        let past = position + count; // after the first pass
        let mut script = vec![[count, position, 0, 0]];
        script.extend((0..chain.saturating_sub(1)).map(|i| [1, past + i, 0, 0]));
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
                if draft != Draft::Nothing {
                    self.encode_logits(&mut pass);
                }
                match drawing {
                    _ if chain == 0 => {}
                    Some(_) => self.spread.encode(&mut pass),
                    None => {
                        self.argmax.encode(&mut pass, 1);
                        self.choose.encode(&mut pass);
                    }
                }
            }
            if chain > 0 {
                let node = 4 * (i as u64 + 1);
                match drawing {
                    Some(drawing) => drawing.encode(encoder, i, self.spread.row()),
                    None => encoder.copy_buffer_to_buffer(&self.chosen, 0, &self.blob, node, 4),
                }
                encoder.copy_buffer_to_buffer(&self.blob, node, &self.tokens, 0, 4);
                let last = u64::from(rows - 1) * self.row_bytes;
                let (from, to) = (&self.output, &self.hidden);
                encoder.copy_buffer_to_buffer(from, last, to, 0, self.row_bytes);
            }
        }
        if let Draft::Tree { nodes, depth } = draft {
            let shared = Shared {
                gpu,
                step: &self.step,
                tokens: &self.tokens,
                output: &self.output,
                target: &self.target,
                hidden_norm: &self.hidden_norm,
                embed_norm: &self.embed_norm,
                hidden_projection: &self.hidden_projection,
                embed_projection: &self.embed_projection,
                embed: &self.embed,
            };
            let (root, last) = (past - 1, count - 1);
            self.growing
                .record(encoder, &shared, root, last, nodes, depth)?;
        }
        Ok(())
    }

    fn encode_layer(&self, pass: &mut ComputePass<'_>, rows: u32, keys: u32) {
        self.hidden_norm.encode(pass, rows);
        self.hidden_projection.encode(pass, rows);
        self.embed.encode(pass, rows);
        self.embed_norm.encode(pass, rows);
        self.embed_projection.encode(pass, rows);
        self.layer.encode(pass, rows, keys, StepKind::Prompt);
    }

    /// Logits of the token after the last row's.
    fn encode_logits(&self, pass: &mut ComputePass<'_>) {
        self.output_norm.encode(pass, 1);
        for linear in &self.head {
            linear.encode(pass, 1);
        }
    }
}
