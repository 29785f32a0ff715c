//! A problem turned into kernels, and kernels bound to buffers.

use std::{fmt::Write as _, sync::Arc};

use wgpu::{BindGroup, Buffer, ComputePass};

use super::{
    AttentionError, AttentionProblem, Mask,
    kernels::{self, AttentionParams, SPAN},
};
use crate::{
    gpu::{BufferView, Gpu, GpuError, Kernel, Pipeline},
    ops::Dispatch,
    tree,
};

/// Packed rows of a KV head above which the prefill kernel takes over, where the problem allows
/// it: two of its blocks.
const PREFILL_ABOVE: u32 = 64;

/// Most packed rows of a block of the decode kernel: more would not fit the registers.
const MAX_ROWS: u32 = 8;

/// A planned problem: kernels chosen, limits checked, nothing compiled yet.
#[derive(Clone, Debug)]
pub struct AttentionPlan {
    gpu: Gpu,
    problem: AttentionProblem,
    decode: Vec<(u32, Kernel)>, // packed rows of a block, smallest first
    merge: Kernel,
    prefill: Option<Kernel>, // for more than PREFILL_ABOVE packed rows
}

impl Gpu {
    /// Chooses the kernels for `problem` and checks them against the device's limits.
    ///
    /// # Errors
    /// A variant of [`AttentionError`] for every problem that no kernel computes.
    pub fn plan_attention(
        &self,
        problem: &AttentionProblem,
    ) -> Result<AttentionPlan, AttentionError> {
        problem.check()?;
        let group = problem.group();
        // Decoding has `group` rows a KV head; verification more. Both sizes do the same
        // arithmetic for a row.
        let mut sizes = vec![group.min(MAX_ROWS)];
        if group < MAX_ROWS && problem.max_queries > 1 {
            sizes.push(MAX_ROWS);
        }
        let decode: Vec<_> = sizes
            .into_iter()
            .map(|rows| (rows, kernels::decode(self.capabilities(), problem, rows)))
            .collect();
        let merge = kernels::merge(problem);
        let most_rows = problem.max_queries.saturating_mul(group);
        let prefill =
            (!problem.invariant && most_rows > PREFILL_ABOVE).then(|| kernels::prefill(problem));
        let all = decode
            .iter()
            .map(|(_, k)| k)
            .chain([&merge])
            .chain(&prefill);
        for kernel in all {
            kernel.check(self.capabilities())?;
        }
        Ok(AttentionPlan {
            gpu: self.clone(),
            problem: problem.clone(),
            decode,
            merge,
            prefill,
        })
    }
}

/// The buffers of one attention call.
#[derive(Clone, Copy, Debug)]
pub struct AttentionIo<'a> {
    /// `Q` in the problem's layout.
    pub query: BufferView<'a>,
    /// `K`.
    pub key: BufferView<'a>,
    /// `V`.
    pub value: BufferView<'a>,
    /// `O`, written.
    pub output: BufferView<'a>,
    /// LSE `[batch, max_queries, query_head]` of f32, written; natural logarithm, and
    /// [`NO_KEY`](super::NO_KEY) for a row that sees no key. Given exactly when the problem asks for it.
    pub lse: Option<BufferView<'a>>,
    /// Lengths, `[batch]` of two u32s: queries, and keys before the first query
    /// (`keys - queries`, wrapping where there are fewer keys). See [`lengths`].
    pub lengths: BufferView<'a>,
    /// Blobs of [`tree::DraftTree`] one after the other, given exactly for [`Mask::Tree`].
    pub tree: Option<BufferView<'a>>,
}

/// The words of a lengths buffer for sequences of `(queries, keys)`.
pub fn lengths(sequences: &[(u32, u32)]) -> Vec<[u32; 2]> {
    sequences
        .iter()
        .map(|(queries, keys)| [*queries, keys.wrapping_sub(*queries)])
        .collect()
}

impl AttentionPlan {
    /// The problem that was planned.
    pub fn problem(&self) -> &AttentionProblem {
        &self.problem
    }

    fn max_spans(&self) -> u32 {
        self.problem.max_keys.div_ceil(SPAN)
    }

    fn partial_rows(&self) -> u64 {
        let p = &self.problem;
        u64::from(p.batch)
            * u64::from(p.max_queries)
            * u64::from(p.query_heads)
            * u64::from(self.max_spans())
    }

    /// Bytes of workspace: the partial states of the spans. It grows with queries, and with keys
    /// only by one state for every 256 of them.
    pub fn workspace_bytes(&self) -> u64 {
        self.partial_rows() * u64::from(self.problem.value_dim) * 4 + self.partial_rows() * 8
    }

    /// The kernels of the plan, what each is for, and the workspace, in words.
    pub fn explain(&self) -> String {
        let mut text = String::new();
        for (rows, kernel) in &self.decode {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{}: up to {rows} packed rows a workgroup, {} invocations, {} bytes of workgroup \
                 memory",
                kernel.name, kernel.workgroup_size[0], kernel.workgroup_bytes,
            );
        }
        let _ = writeln!(
            text,
            "{}: joins up to {} spans of {SPAN} keys",
            self.merge.name,
            self.max_spans()
        );
        if let Some(kernel) = &self.prefill {
            let _ = writeln!(
                text,
                "{}: more than {PREFILL_ABOVE} packed rows, {} invocations, {} bytes of workgroup \
                 memory",
                kernel.name,
                kernel.workgroup_size.iter().product::<u32>(),
                kernel.workgroup_bytes,
            );
        }
        let _ = writeln!(text, "workspace: {} bytes", self.workspace_bytes());
        text
    }

    /// Compiles the kernels; the second call for the same variants finds them compiled.
    ///
    /// # Errors
    /// [`GpuError::Compile`] naming the variant.
    pub async fn prepare(&self) -> Result<PreparedAttention, AttentionError> {
        let mut decode = Vec::new();
        for (rows, kernel) in &self.decode {
            decode.push((*rows, self.gpu.pipeline(kernel).await?));
        }
        let prefill = match &self.prefill {
            Some(kernel) => Some(self.gpu.pipeline(kernel).await?),
            None => None,
        };
        Ok(PreparedAttention {
            plan: self.clone(),
            prefill,
            decode,
            merge: self.gpu.pipeline(&self.merge).await?,
        })
    }
}

/// A compiled plan.
#[derive(Clone, Debug)]
pub struct PreparedAttention {
    plan: AttentionPlan,
    decode: Vec<(u32, Arc<Pipeline>)>,
    merge: Arc<Pipeline>,
    prefill: Option<Arc<Pipeline>>,
}

/// Room for the partial states of one call at a time; calls that follow each other in one pass
/// may share it.
#[derive(Clone, Debug)]
pub struct AttentionWorkspace {
    output: Buffer,
    state: Buffer,
}

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
        let rows = self.plan.partial_rows();
        let width = u64::from(self.plan.problem.value_dim);
        let gpu = &self.plan.gpu;
        Ok(AttentionWorkspace {
            output: gpu.storage("attention partial output", rows * width * 4)?,
            state: gpu.storage("attention partial state", rows * 8)?,
        })
    }

    /// Binds buffers. The result records the call any number of times and allocates nothing then.
    ///
    /// # Errors
    /// [`AttentionError::ViewTooSmall`], [`AttentionError::Argument`], and through
    /// [`AttentionError::Gpu`] the errors of a misaligned, aliased or oversized view.
    pub fn bind(
        &self,
        workspace: &AttentionWorkspace,
        io: &AttentionIo<'_>,
    ) -> Result<Attention, AttentionError> {
        self.check(io)?;
        let gpu = &self.plan.gpu;
        let params = gpu.uniform("attention params", &self.params());
        let partial_output = BufferView::whole(&workspace.output);
        let partial_state = BufferView::whole(&workspace.state);
        let mut decode_views = vec![
            ("params", BufferView::whole(&params)),
            ("lengths", io.lengths),
            ("query", io.query),
            ("key", io.key),
            ("value", io.value),
            ("workspace output", partial_output),
            ("workspace state", partial_state),
        ];
        decode_views.extend(io.tree.map(|tree| ("tree", tree)));
        let mut merge_views = vec![
            ("params", BufferView::whole(&params)),
            ("lengths", io.lengths),
            ("workspace output", partial_output),
            ("workspace state", partial_state),
            ("output", io.output),
        ];
        merge_views.extend(io.lse.map(|lse| ("lse", lse)));
        let mut prefill_views = vec![
            ("params", BufferView::whole(&params)),
            ("lengths", io.lengths),
            ("query", io.query),
            ("key", io.key),
            ("value", io.value),
            ("output", io.output),
        ];
        prefill_views.extend(io.tree.map(|tree| ("tree", tree)));
        prefill_views.extend(io.lse.map(|lse| ("lse", lse)));
        let bind = |pipeline: &Arc<Pipeline>, views: &[(&'static str, BufferView<'_>)]| {
            let arguments: Result<BindGroup, GpuError> = gpu.bind(pipeline, views);
            Ok::<_, GpuError>(Dispatch::new(pipeline.clone(), arguments?))
        };
        let decode = (self.decode.iter())
            .map(|(rows, pipeline)| Ok((*rows, bind(pipeline, &decode_views)?)));
        let problem = &self.plan.problem;
        Ok(Attention {
            decode: decode.collect::<Result<_, GpuError>>()?,
            merge: bind(&self.merge, &merge_views)?,
            prefill: match &self.prefill {
                Some(pipeline) => Some(bind(pipeline, &prefill_views)?),
                None => None,
            },
            batch: problem.batch,
            query_heads: problem.query_heads,
            kv_heads: problem.kv_heads,
            max_queries: problem.max_queries,
            max_keys: problem.max_keys,
        })
    }

    fn check(&self, io: &AttentionIo<'_>) -> Result<(), AttentionError> {
        let problem = &self.plan.problem;
        let batch = u64::from(problem.batch);
        let mut needs = vec![
            ("query", io.query.size, problem.extent("query")),
            ("key", io.key.size, problem.extent("key")),
            ("value", io.value.size, problem.extent("value")),
            ("output", io.output.size, problem.extent("output")),
            ("lengths", io.lengths.size, batch * 8),
        ];
        match (problem.lse, io.lse) {
            (true, Some(lse)) => {
                let rows = batch * u64::from(problem.max_queries) * u64::from(problem.query_heads);
                needs.push(("lse", lse.size, rows * 4));
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
        match (problem.mask, io.tree) {
            (Mask::Tree { max_nodes }, Some(tree)) => {
                needs.push((
                    "tree",
                    tree.size,
                    batch * tree::blob_words(max_nodes as usize) as u64 * 4,
                ));
            }
            (Mask::Tree { .. }, None) => {
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

    fn params(&self) -> AttentionParams {
        let p = &self.plan.problem;
        let max_nodes = match p.mask {
            Mask::Tree { max_nodes } => max_nodes,
            _ => 0,
        };
        AttentionParams {
            query_heads: p.query_heads,
            kv_heads: p.kv_heads,
            group: p.group(),
            max_queries: p.max_queries,
            max_keys: p.max_keys,
            q_batch: p.query.batch_stride / 4,
            q_token: p.query.token_stride / 4,
            q_head: p.query.head_stride / 4,
            k_batch: p.key.batch_stride / 4,
            k_token: p.key.token_stride / 4,
            k_head: p.key.head_stride / 4,
            v_batch: p.value.batch_stride / 4,
            v_token: p.value.token_stride / 4,
            v_head: p.value.head_stride / 4,
            o_batch: p.output.batch_stride / 4,
            o_token: p.output.token_stride / 4,
            o_head: p.output.head_stride / 4,
            max_spans: self.plan.max_spans(),
            tree_words: tree::ancestor_words(max_nodes as usize) as u32,
            tree_base: tree::ancestors_offset(max_nodes as usize) as u32,
            tree_stride: tree::blob_words(max_nodes as usize) as u32,
            scale: p.scale * std::f32::consts::LOG2_E,
        }
    }
}

/// Attention bound to its buffers, ready to be recorded.
#[derive(Clone, Debug)]
pub struct Attention {
    decode: Vec<(u32, Dispatch)>,
    merge: Dispatch,
    prefill: Option<Dispatch>,
    batch: u32,
    query_heads: u32,
    kv_heads: u32,
    max_queries: u32,
    max_keys: u32,
}

impl Attention {
    /// Records the call for at most `queries` queries and `keys` keys a sequence; both are cut to
    /// the problem's capacity. The lengths buffer says how many there are; a bound that is too
    /// low leaves keys or queries out, one that is too high costs idle workgroups.
    pub fn encode(&self, pass: &mut ComputePass<'_>, queries: u32, keys: u32) {
        let queries = queries.min(self.max_queries);
        let rows = queries * (self.query_heads / self.kv_heads);
        if let Some(prefill) = self.prefill.as_ref().filter(|_| rows > PREFILL_ABOVE) {
            let blocks = rows.div_ceil(kernels::PREFILL_ROWS);
            return prefill.encode(pass, [blocks, self.kv_heads, self.batch]);
        }
        let spans = keys.min(self.max_keys).div_ceil(SPAN);
        let fitting = self.decode.iter().find(|(block, _)| *block >= rows);
        let Some((block, decode)) = fitting.or(self.decode.last()) else {
            return;
        };
        let sequences = self.batch * self.kv_heads;
        decode.encode(pass, [rows.div_ceil(*block), spans, sequences]);
        self.merge
            .encode(pass, [self.query_heads, queries, self.batch]);
    }
}
