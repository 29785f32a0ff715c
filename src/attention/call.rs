//! A compiled plan bound to buffers, and recorded.

use std::{ops::Range, sync::Arc};

use wgpu::{Buffer, ComputePass};

use super::{
    AttentionError, AttentionPlan, Mask,
    kernels::{self, AttentionParams, Extra, MAX_HEADS, SPAN},
};
use crate::{
    gpu::{BufferView, GpuError, Pipeline},
    ops::{Dispatch, DispatchSizes, Workgroups},
    tree::{self, BlobField},
};

/// An argument with its name for error messages.
type View<'a> = (&'static str, BufferView<'a>);

/// The buffers of one attention call.
#[derive(Clone, Copy, Debug)]
pub struct AttentionIo<'a> {
    /// `Q` in the layout [`AttentionProblem::query`](super::AttentionProblem::query).
    pub query: BufferView<'a>,
    /// `K` in the layout [`AttentionProblem::key`](super::AttentionProblem::key). It may lie in one
    /// buffer with `V`.
    pub key: BufferView<'a>,
    /// `V` in the layout [`AttentionProblem::value`](super::AttentionProblem::value).
    pub value: BufferView<'a>,
    /// `O` in the layout [`AttentionProblem::output`](super::AttentionProblem::output), written; 0
    /// for a row that sees no key. In a buffer of its own.
    pub output: BufferView<'a>,
    /// LSE `[batch, max_queries, query_head]` of f32, written; natural logarithm, and
    /// [`NO_KEY`](super::NO_KEY) for a row that sees no key. Given exactly when the problem asks for it.
    pub lse: Option<BufferView<'a>>,
    /// Lengths, `[batch]` of four u32s: queries; keys before the first query (`keys - queries`,
    /// wrapping where there are fewer keys); and, in a ragged batch, tokens before the sequence's
    /// first query and first key. See [`lengths`] and [`ragged_lengths`].
    pub lengths: BufferView<'a>,
    /// The bias, f32, in the layout [`AttentionProblem::bias`](super::AttentionProblem::bias), given
    /// exactly when the problem has one.
    pub bias: Option<BufferView<'a>>,
    /// `[batch]` of [`DraftTree::blob`](super::DraftTree::blob)`(max_nodes)`, given exactly for
    /// [`Mask::Tree`] and [`Mask::TreeEnd`].
    pub tree: Option<BufferView<'a>>,
    /// The page table `[batch, table_stride]` of u32, given exactly when the problem has
    /// [`pages`](super::AttentionProblem::pages): the pool's page of each `page_tokens` tokens.
    pub pages: Option<BufferView<'a>>,
}

/// The words of a lengths buffer for sequences of `(queries, keys)` in a padded batch.
///
/// ```
/// use sunfleck::attention::lengths;
///
/// // One query at the end of 300 keys; 16 queries at the end of 40.
/// assert_eq!(lengths(&[(1, 300), (16, 40)]), [[1, 299, 0, 0], [16, 24, 0, 0]]);
/// ```
pub fn lengths(sequences: &[(u32, u32)]) -> Vec<[u32; 4]> {
    sequences
        .iter()
        .map(|(queries, keys)| [*queries, keys.wrapping_sub(*queries), 0, 0])
        .collect()
}

/// The words of a lengths buffer for sequences of `(queries, keys)` that follow each other without
/// padding, queries in one tensor and keys in another: see [`AttentionProblem::ragged`](super::AttentionProblem::ragged).
///
/// ```
/// use sunfleck::attention::ragged_lengths;
///
/// assert_eq!(ragged_lengths(&[(1, 300), (16, 40)]), [[1, 299, 0, 0], [16, 24, 1, 300]]);
/// ```
pub fn ragged_lengths(sequences: &[(u32, u32)]) -> Vec<[u32; 4]> {
    let mut words = lengths(sequences);
    let (mut query_start, mut key_start) = (0u32, 0u32);
    for (word, (queries, keys)) in words.iter_mut().zip(sequences) {
        word[2] = query_start;
        word[3] = key_start;
        query_start = query_start.wrapping_add(*queries);
        key_start = key_start.wrapping_add(*keys);
    }
    words
}

/// Keys and values of some neighbouring KV heads, in bindings of their own.
#[derive(Clone, Debug)]
pub(super) struct KvPart<'a> {
    pub heads: Range<u32>,
    pub key: BufferView<'a>,
    pub value: BufferView<'a>,
}

/// A compiled plan.
#[derive(Clone, Debug)]
pub struct PreparedAttention {
    pub(super) plan: AttentionPlan,
    pub(super) decode: Vec<(u32, Arc<Pipeline>)>,
    pub(super) merge: Arc<Pipeline>,
    pub(super) prefill: Option<Arc<Pipeline>>,
}

/// Room for the partial states of one call at a time; calls that follow each other in one pass
/// may share it.
#[derive(Clone, Debug)]
pub struct AttentionWorkspace(Buffer);

impl PreparedAttention {
    /// The plan.
    pub fn plan(&self) -> &AttentionPlan {
        &self.plan
    }

    /// Allocates a workspace of [`AttentionPlan::workspace_bytes`].
    ///
    /// # Errors
    /// [`GpuError::LimitExceeded`] when it passes the device's limits.
    pub fn workspace(&self) -> Result<AttentionWorkspace, AttentionError> {
        let bytes = self.plan.workspace_bytes();
        Ok(AttentionWorkspace(
            self.plan.gpu().storage("attention workspace", bytes)?,
        ))
    }

    /// Binds buffers. The result records the call any number of times and allocates nothing then.
    ///
    /// The workspace is one of this plan, or of one on the same device that needs no fewer bytes.
    ///
    /// # Errors
    /// [`AttentionError::ViewTooSmall`], [`AttentionError::Argument`], and through
    /// [`AttentionError::Gpu`] the errors of a misaligned, aliased or oversized view.
    pub fn bind(
        &self,
        workspace: &AttentionWorkspace,
        io: &AttentionIo<'_>,
    ) -> Result<Attention, AttentionError> {
        self.bind_parts(workspace, io, &[self.one_part(io)])
    }

    /// All KV heads in the views of `io`.
    pub(super) fn one_part<'a>(&self, io: &AttentionIo<'a>) -> KvPart<'a> {
        KvPart {
            heads: 0..self.plan.problem().kv_heads,
            key: io.key,
            value: io.value,
        }
    }

    /// As [`Self::bind`] with keys and values in `parts`, which have all KV heads in order, in place of `io`'s.
    pub(super) fn bind_parts(
        &self,
        workspace: &AttentionWorkspace,
        io: &AttentionIo<'_>,
        parts: &[KvPart<'_>],
    ) -> Result<Attention, AttentionError> {
        self.check(io, parts)?;
        let needed = self.plan.workspace_bytes();
        if workspace.0.size() < needed {
            return Err(AttentionError::ViewTooSmall {
                name: "workspace",
                needed,
                given: workspace.0.size(),
            });
        }
        let gpu = self.plan.gpu();
        let heads = gpu.uniform("attention head values", &self.head_values());
        let workspace = ("workspace", BufferView::whole(&workspace.0));
        let extra = |extra: Extra| match extra {
            Extra::Pages => io.pages.map(|pages| ("pages", pages)),
            Extra::Tree => io.tree.map(|tree| ("tree", tree)),
            Extra::Bias => io.bias.map(|bias| ("bias", bias)),
            Extra::Heads => Some(("head values", BufferView::whole(&heads))),
            Extra::Lse => io.lse.map(|lse| ("lse", lse)),
        };
        let extras_of = |extras: Vec<Extra>| -> Vec<View<'_>> {
            extras.into_iter().filter_map(extra).collect()
        };
        let problem = self.plan.problem();
        let bind = |pipeline: &Arc<Pipeline>, views: Vec<View<'_>>| {
            let arguments = gpu.bind(pipeline, &views)?;
            Ok::<_, GpuError>(Dispatch::new(pipeline.clone(), arguments))
        };
        let decode_extras = extras_of(kernels::decode_extras(problem));
        let merge_extras = extras_of(kernels::merge_extras(problem));
        let prefill_extras = extras_of(kernels::prefill_extras(problem));
        let bias_bytes = io.bias.map_or(0, |bias| bias.size);
        let chunk = self.plan.chunk();
        // With a prefill kernel only calls of few rows come here.
        let few = match self.prefill {
            Some(_) => self.plan.few_queries(),
            None => problem.max_queries,
        };
        let chunks = few.div_ceil(chunk);
        let mut bound = Vec::new();
        let mut prefill = Vec::new();
        let (lengths, query) = (("lengths", io.lengths), ("query", io.query));
        let output = ("output", io.output);
        for i in 0..chunks {
            let params_of = |heads: &Range<u32>| {
                let params = AttentionParams {
                    kv_heads: heads.end - heads.start,
                    first_kv_head: heads.start,
                    ..self.params(i * chunk, bias_bytes)
                };
                gpu.uniform("attention params", &params)
            };
            let mut decode: Vec<_> = (self.decode.iter())
                .map(|(rows, _)| (*rows, Vec::new()))
                .collect();
            for part in parts {
                let params = params_of(&part.heads);
                let params = ("params", BufferView::whole(&params));
                let (key, value) = (("key", part.key), ("value", part.value));
                let kv_heads = part.heads.end - part.heads.start;
                let decode_views = [
                    &[params, lengths, query, key, value, workspace][..],
                    &decode_extras,
                ]
                .concat();
                for ((_, dispatches), (_, pipeline)) in decode.iter_mut().zip(&self.decode) {
                    dispatches.push((kv_heads, bind(pipeline, decode_views.clone())?));
                }
                if let Some(pipeline) = self.prefill.as_ref().filter(|_| i == 0) {
                    let views = [
                        &[params, lengths, query, key, value, output][..],
                        &prefill_extras,
                    ]
                    .concat();
                    prefill.push((kv_heads, bind(pipeline, views)?));
                }
            }
            // The merge knows query heads only: it joins the spans of all parts.
            let params = params_of(&(0..problem.kv_heads));
            let params = ("params", BufferView::whole(&params));
            let merge_views = [&[params, lengths, workspace, output][..], &merge_extras].concat();
            bound.push(Chunk {
                decode,
                merge: bind(&self.merge, merge_views)?,
            });
        }
        Ok(Attention {
            chunks: bound,
            chunk,
            prefill,
            prefill_rows: self.plan.prefill_rows(),
            few_rows: self.plan.few_rows(),
            batch: problem.batch,
            query_heads: problem.query_heads,
            group: problem.group(),
            max_queries: problem.max_queries,
            max_keys: problem.max_keys,
        })
    }

    pub(super) fn check(
        &self,
        io: &AttentionIo<'_>,
        parts: &[KvPart<'_>],
    ) -> Result<(), AttentionError> {
        let problem = self.plan.problem();
        let batch = u64::from(problem.batch);
        let mut needs = vec![
            ("query", io.query.size, problem.extent("query")),
            ("output", io.output.size, problem.extent("output")),
            ("lengths", io.lengths.size, batch * 16),
        ];
        for part in parts {
            let extent = |name| problem.part_extent(name, part.heads.end - part.heads.start);
            needs.push(("key", part.key.size, extent("key")));
            needs.push(("value", part.value.size, extent("value")));
        }
        match (problem.lse, io.lse) {
            (true, Some(lse)) => {
                let rows = (batch * u64::from(problem.max_queries))
                    .saturating_mul(u64::from(problem.query_heads));
                needs.push(("lse", lse.size, rows.saturating_mul(4)));
            }
            (false, None) => {}
            (true, None) => {
                return Err(AttentionError::Argument {
                    name: "lse",
                    problem: "is missing, but the problem asks for the LSE",
                });
            }
            (false, Some(_)) => {
                return Err(AttentionError::Argument {
                    name: "lse",
                    problem: "was given, but the problem's `lse` is false and it would stay unwritten",
                });
            }
        }
        match (problem.bias, io.bias) {
            (Some(layout), Some(bias)) => needs.push((
                "bias",
                bias.size,
                layout
                    .extent(problem.batch, problem.query_heads, problem.max_queries)
                    .saturating_add(u64::from(problem.max_keys) * 4),
            )),
            (None, None) => {}
            (Some(_), None) => {
                return Err(AttentionError::Argument {
                    name: "bias",
                    problem: "is missing, but the problem has a bias layout",
                });
            }
            (None, Some(_)) => {
                return Err(AttentionError::Argument {
                    name: "bias",
                    problem: "was given, but the problem has no bias layout",
                });
            }
        }
        match (problem.mask.tree_nodes(), io.tree) {
            (Some(max_nodes), Some(tree)) => {
                needs.push((
                    "tree",
                    tree.size,
                    (batch * 4).saturating_mul(tree::blob_words(max_nodes as usize) as u64),
                ));
            }
            (Some(_), None) => {
                return Err(AttentionError::Argument {
                    name: "tree",
                    problem: "is missing, but the mask is a draft tree",
                });
            }
            (_, None) => {}
            (_, Some(_)) => {
                return Err(AttentionError::Argument {
                    name: "tree",
                    problem: "was given, but the mask is not a draft tree",
                });
            }
        }
        match (problem.pages, io.pages) {
            (Some(pages), Some(table)) => needs.push((
                "pages",
                table.size,
                (u64::from(pages.first_sequence) + batch) * u64::from(pages.table_stride) * 4,
            )),
            (None, None) => {}
            (Some(_), None) => {
                return Err(AttentionError::Argument {
                    name: "pages",
                    problem: "is missing, but the problem's keys lie in pages",
                });
            }
            (None, Some(_)) => {
                return Err(AttentionError::Argument {
                    name: "pages",
                    problem: "was given, but the problem's keys lie in no pages",
                });
            }
        }
        // Kernels of one call run one after the other, so the device would not notice.
        let mut inputs = vec![
            ("query", Some(io.query)),
            ("lengths", Some(io.lengths)),
            ("tree", io.tree),
            ("bias", io.bias),
            ("pages", io.pages),
        ];
        for part in parts {
            inputs.extend([("key", Some(part.key)), ("value", Some(part.value))]);
        }
        for (written, view) in [("output", Some(io.output)), ("lse", io.lse)] {
            for &(other, input) in &inputs {
                if let (Some(view), Some(input)) = (view, input)
                    && view.overlaps(&input)
                {
                    return Err(GpuError::Alias { written, other }.into());
                }
            }
        }
        for (name, given, needed) in needs {
            if given < needed {
                return Err(AttentionError::ViewTooSmall {
                    name,
                    needed,
                    given,
                });
            }
        }
        Ok(())
    }

    /// ALiBi slope and sink of each head, in the base-2 domain.
    fn head_values(&self) -> [[f32; 4]; MAX_HEADS as usize] {
        let problem = self.plan.problem();
        let value = |values: &Option<Vec<f32>>, head: usize| {
            let values = values.as_deref().unwrap_or_default();
            values.get(head).copied().unwrap_or(0.0) * std::f32::consts::LOG2_E
        };
        std::array::from_fn(|head| {
            [
                value(&problem.alibi_slopes, head),
                value(&problem.sinks, head),
                0.0,
                0.0,
            ]
        })
    }

    pub(super) fn params(&self, chunk_start: u32, bias_bytes: u64) -> AttentionParams {
        let p = self.plan.problem();
        let max_nodes = p.mask.tree_nodes().unwrap_or(0);
        let bias = p.bias.unwrap_or_default();
        let first_key = p
            .pages
            .map_or(0, |pages| pages.first_page * pages.page_tokens);
        AttentionParams {
            query_heads: p.query_heads,
            kv_heads: p.kv_heads,
            first_kv_head: 0,
            group: p.group(),
            max_queries: p.max_queries,
            max_keys: p.max_keys,
            total_queries: p.total_queries(),
            total_keys: p.total_keys(),
            q_batch: p.batch_units(&p.query),
            q_token: p.query.token_stride / 4,
            q_head: p.query.head_stride / 4,
            k_batch: p.kv_batch_units(&p.key),
            k_token: p.key.units(p.key.token_stride),
            k_head: p.key.units(p.key.head_stride),
            v_batch: p.kv_batch_units(&p.value),
            v_token: p.value.units(p.value.token_stride),
            v_head: p.value.units(p.value.head_stride),
            o_batch: p.batch_units(&p.output),
            o_token: p.output.token_stride / 4,
            o_head: p.output.head_stride / 4,
            max_spans: self.plan.max_spans(),
            chunk_start,
            chunk: self.plan.chunk(),
            tree_words: tree::ancestor_words(max_nodes as usize) as u32,
            tree_base: tree::ancestors_offset(max_nodes as usize) as u32,
            tree_depth: tree::field_offset(BlobField::Depth, max_nodes as usize) as u32,
            // The root's interval holds all nodes.
            tree_nodes: tree::field_offset(BlobField::DfsOut, max_nodes as usize) as u32,
            prefix: match p.mask {
                Mask::Prefix { keys } => keys.saturating_sub(first_key),
                _ => 0,
            },
            // Distances are signed: a window beyond every key sees all of them.
            window: p.window.unwrap_or(0).min(1 << 30),
            bias_batch: bias.batch_stride,
            bias_head: bias.head_stride,
            bias_query: bias.query_stride,
            bias_size: u32::try_from(bias_bytes / 4).unwrap_or(u32::MAX),
            table_stride: p.pages.map_or(0, |pages| pages.table_stride),
            first_entry: p.pages.map_or(0, |pages| {
                pages.first_sequence * pages.table_stride + pages.first_page
            }),
            first_key,
            pool_pages: p.pages.map_or(0, |pages| pages.pool_pages),
            softcap: p.softcap.unwrap_or(1.0) * std::f32::consts::LOG2_E,
            tree_stride: tree::blob_words(max_nodes as usize) as u32,
            tree_most: max_nodes,
            scale: p.scale * std::f32::consts::LOG2_E,
        }
    }
}

/// KV heads of a part, and what computes them.
type Part = (u32, Dispatch);

/// Queries that share the workspace at a time.
#[derive(Clone, Debug)]
struct Chunk {
    decode: Vec<(u32, Vec<Part>)>, // packed rows of a block
    merge: Dispatch,
}

fn depends_on_keys(groups: &[Workgroups; 3]) -> bool {
    groups
        .iter()
        .any(|axis| !matches!(axis, Workgroups::Fixed(_)))
}

/// Attention bound to its buffers, ready to be recorded.
#[derive(Clone, Debug)]
pub struct Attention {
    chunks: Vec<Chunk>,
    chunk: u32, // queries of a chunk
    prefill: Vec<Part>,
    prefill_rows: u32, // packed rows of a workgroup
    few_rows: u32,     // most packed rows of a KV head that do without the prefill kernel
    batch: u32,
    query_heads: u32,
    group: u32,
    max_queries: u32,
    max_keys: u32,
}

impl Attention {
    /// Records the call for at most `queries` queries and `keys` keys a sequence; both are cut to
    /// the problem's capacity. The lengths buffer says how many there are: no sequence may have more
    /// than these bounds, or its outputs are undefined; bounds that are too high cost idle workgroups.
    ///
    /// The pass may hold other work before and after, also calls that share the workspace.
    ///
    /// # Example
    /// One bound call, recorded for a cache that grows. The query is 0, so that every key weighs the same
    /// and the output is the mean of the values.
    ///
    /// ```
    /// # use sunfleck::attention::{AttentionIo, AttentionProblem, lengths};
    /// # use sunfleck::{gpu::Gpu, wgpu};
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = wgpu::Instance::default();
    /// # let adapter = instance.request_adapter(&Default::default()).await?;
    /// # let (device, queue) = adapter.request_device(&Default::default()).await?;
    /// # let gpu = Gpu::new(&device, &queue);
    /// let attention = gpu.plan_attention(&AttentionProblem::new(1, 1, 4, 1, 100))?.prepare().await?;
    /// let values: Vec<f32> = (0..100).flat_map(|token| [token as f32; 4]).collect();
    /// let query = gpu.storage("query", 4 * 4)?; // zeros
    /// let key = gpu.storage("key", 100 * 4 * 4)?;
    /// let value = gpu.storage_with("value", &values)?;
    /// let output = gpu.storage("output", 4 * 4)?;
    /// let sizes = gpu.storage("lengths", 16)?;
    /// let call = attention.bind(&attention.workspace()?, &AttentionIo {
    ///     query: (&query).into(),
    ///     key: (&key).into(),
    ///     value: (&value).into(),
    ///     output: (&output).into(),
    ///     lengths: (&sizes).into(),
    ///     lse: None,
    ///     bias: None,
    ///     tree: None,
    ///     pages: None,
    /// })?;
    /// for (keys, mean) in [(1, 0.0), (3, 1.0), (100, 49.5)] {
    ///     queue.write_buffer(&sizes, 0, bytemuck::cast_slice(&lengths(&[(1, keys)])));
    ///     let mut encoder = device.create_command_encoder(&Default::default());
    ///     call.encode(&mut encoder.begin_compute_pass(&Default::default()), 1, keys);
    ///     queue.submit([encoder.finish()]);
    ///     let result: Vec<f32> = gpu.read_buffer(&output).await?;
    ///     assert!((result[0] - mean).abs() < 1e-4, "{result:?}");
    /// }
    /// # Ok(())
    /// # }
    /// # pollster::block_on(example()).unwrap();
    /// ```
    pub fn encode(&self, pass: &mut ComputePass<'_>, queries: u32, keys: u32) {
        let keys = keys.min(self.max_keys);
        self.each(queries, |dispatch, groups| {
            dispatch.encode(pass, groups.map(|axis| axis.of(keys)));
        });
    }

    /// The dispatches of a call for at most `queries` queries whose workgroups depend on the keys there are, in order:
    /// for [`Self::encode_sized`].
    pub fn sizes(&self, queries: u32) -> Vec<[Workgroups; 3]> {
        let mut sizes = Vec::new();
        self.each(queries, |_, groups| {
            if depends_on_keys(&groups) {
                sizes.push(groups);
            }
        });
        sizes
    }

    /// As [`Self::encode`], with the number of keys known on the GPU only: the dispatches of [`Self::sizes`] are those
    /// from `first` on of `sizes`, whoever writes them there (see
    /// [`verify::Advance`](crate::verify::Advance)).
    ///
    /// # Errors
    /// [`AttentionError::Argument`] when those are others; nothing is recorded then.
    pub fn encode_sized(
        &self,
        pass: &mut ComputePass<'_>,
        queries: u32,
        sizes: &DispatchSizes,
        first: usize,
    ) -> Result<(), AttentionError> {
        let own = self.sizes(queries);
        if sizes
            .rules()
            .get(first..)
            .and_then(|rules| rules.get(..own.len()))
            != Some(&own)
        {
            return Err(AttentionError::Argument {
                name: "sizes",
                problem: "has other dispatches from `first` on than this call",
            });
        }
        let mut next = first as u64;
        self.each(queries, |dispatch, groups| {
            if depends_on_keys(&groups) {
                dispatch.encode_sized(pass, sizes.buffer(), next * 12);
                next += 1;
            } else {
                dispatch.encode(pass, groups.map(|axis| axis.of(0)));
            }
        });
        Ok(())
    }

    /// The dispatches of a call for at most `queries` queries.
    fn each(&self, queries: u32, mut record: impl FnMut(&Dispatch, [Workgroups; 3])) {
        use Workgroups::Fixed;
        let queries = queries.min(self.max_queries);
        let group = self.group;
        if !self.prefill.is_empty() && queries * group > self.few_rows {
            let blocks = (queries * group).div_ceil(self.prefill_rows);
            for (kv_heads, prefill) in &self.prefill {
                let groups = [blocks, *kv_heads, self.batch];
                record(prefill, groups.map(Fixed));
            }
            return;
        }
        let spans = Workgroups::OfKeys {
            per: SPAN,
            most: self.max_keys.div_ceil(SPAN),
        };
        for (start, chunk) in (0..queries).step_by(self.chunk as usize).zip(&self.chunks) {
            let queries = self.chunk.min(queries - start);
            let rows = queries * group;
            let fitting = chunk.decode.iter().find(|(block, _)| *block >= rows);
            let Some((block, decode)) = fitting.or(chunk.decode.last()) else {
                return;
            };
            for (kv_heads, decode) in decode {
                let (blocks, sequences) = (rows.div_ceil(*block), self.batch * kv_heads);
                record(decode, [Fixed(blocks), spans, Fixed(sequences)]);
            }
            let groups = [self.query_heads, queries, self.batch];
            record(&chunk.merge, groups.map(Fixed));
        }
    }
}
