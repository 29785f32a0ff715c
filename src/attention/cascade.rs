//! Attention of sequences that share their first keys: the prefix is read once for all of them.
//!
//! All queries of the batch become the rows of one call over the prefix, in which a key that is loaded
//! serves every sequence; a second call gives each sequence its own keys; the two are joined by their
//! LSEs (Ye et al. 2025, FlashInfer, call it cascade inference).

use std::sync::Arc;

use wgpu::{Buffer, ComputePass};

use super::{
    Attention, AttentionError, AttentionIo, AttentionPlan, AttentionProblem, Element, Mask, Pages,
    PreparedAttention, TensorLayout, call::KvPart, kernels, lengths,
};
use crate::{
    gpu::{BufferView, Gpu, Kernel, Pipeline},
    ops::Dispatch,
};

/// What the sequences of a batch share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedPrefix {
    /// Tokens that are the same in all sequences: whole pages. Every query of a step stands after them: all queries
    /// see all of the prefix, whatever the mask.
    pub tokens: u32,
    /// A sequence that has them, by its row of the page table. It may be one without queries in this step, as
    /// long as its pages are there.
    pub sequence: u32,
}

/// A planned cascade: see [`Gpu::plan_cascade`].
#[derive(Clone, Debug)]
pub struct CascadePlan {
    problem: AttentionProblem,
    prefix: AttentionPlan,
    own: AttentionPlan,
    merge: Kernel,
}

/// A compiled cascade.
#[derive(Clone, Debug)]
pub struct PreparedCascade {
    plan: CascadePlan,
    prefix: PreparedAttention,
    own: PreparedAttention,
    merge: Arc<Pipeline>,
}

/// A cascade bound to its buffers, ready to be recorded.
#[derive(Clone, Debug)]
pub struct Cascade {
    prefix: Attention,
    own: Attention,
    merge: Dispatch,
    tokens: u32,
    groups: [u32; 2], // query heads and sequences
    max_queries: u32,
    batch: u32,
}

impl Gpu {
    /// Plans attention for a paged batch whose sequences share a prefix. The problem is that of the same call
    /// without sharing.
    ///
    /// Results agree with that call to rounding, not bit for bit: the order of additions is another. It pays where
    /// the prefix is long and many sequences share it.
    ///
    /// # Errors
    /// [`AttentionError::Cascade`] for a problem without pages, ragged, with a window, ALiBi or bias, whose
    /// positions the rows of a packed call do not know, or with gaps between the queries of its sequences; and
    /// those of [`Gpu::plan_attention`].
    pub fn plan_cascade(&self, problem: &AttentionProblem) -> Result<CascadePlan, AttentionError> {
        let refuse = |reason| Err(AttentionError::Cascade { reason });
        let Some(pages) = problem.pages else {
            return refuse("its keys must lie in pages");
        };
        if problem.ragged.is_some() {
            return refuse("its batch must be padded, not ragged");
        }
        if problem.window.is_some() || problem.alibi_slopes.is_some() || problem.bias.is_some() {
            return refuse("it can have no window, ALiBi or bias");
        }
        if pages.first_page != 0 {
            return refuse("it must start with the first page");
        }
        // Checks what the two calls below do not share with it.
        self.plan_attention(problem)?;
        let rows = problem.batch.saturating_mul(problem.max_queries);
        let stride = u64::from(problem.max_queries) * u64::from(problem.query.token_stride);
        if problem.batch > 1 && u64::from(problem.query.batch_stride) != stride {
            return refuse("the queries of its sequences must follow each other without gaps");
        }
        let dense = |tokens| {
            TensorLayout::token_major(Element::F32, tokens, problem.query_heads, problem.value_dim)
        };
        let prefix = AttentionProblem {
            batch: 1,
            max_queries: rows,
            mask: Mask::None,
            output: dense(rows),
            // The sink joins the denominator once, with the own keys.
            sinks: None,
            lse: true,
            invariant: false,
            ..problem.clone()
        };
        let own = AttentionProblem {
            output: dense(problem.max_queries),
            lse: true,
            ..problem.clone()
        };
        let merge = kernels::merge_prefix(problem);
        merge.check(self.capabilities())?;
        Ok(CascadePlan {
            prefix: self.plan_attention(&prefix)?,
            own: self.plan_attention(&own)?,
            merge,
            problem: problem.clone(),
        })
    }
}

impl CascadePlan {
    /// Kernels and workspaces of both calls, in words.
    pub fn explain(&self) -> String {
        format!(
            "shared prefix:\n{}own keys:\n{}{}: joins both\n",
            self.prefix.explain(),
            self.own.explain(),
            self.merge.name
        )
    }

    /// Compiles the kernels.
    ///
    /// # Errors
    /// As [`AttentionPlan::prepare`].
    pub async fn prepare(&self) -> Result<PreparedCascade, AttentionError> {
        Ok(PreparedCascade {
            prefix: self.prefix.prepare().await?,
            own: self.own.prepare().await?,
            merge: self.own.gpu().pipeline(&self.merge).await?,
            plan: self.clone(),
        })
    }
}

impl PreparedCascade {
    /// The call over each sequence's own keys.
    pub(super) fn own(&self) -> &PreparedAttention {
        &self.own
    }

    /// Binds buffers, with room of its own for the results of both calls. `io` is that of the call without
    /// sharing; its lengths count the shared tokens.
    ///
    /// # Errors
    /// [`AttentionError::Cascade`] for a prefix that is empty, no whole number of pages, or larger than the
    /// problem's keys, and those of [`PreparedAttention::bind`].
    pub fn bind(
        &self,
        shared: SharedPrefix,
        io: &AttentionIo<'_>,
    ) -> Result<Cascade, AttentionError> {
        self.bind_parts(shared, io, &[self.own.one_part(io)])
    }

    /// As [`Self::bind`] with keys and values in `parts`, in place of `io`'s.
    pub(super) fn bind_parts(
        &self,
        shared: SharedPrefix,
        io: &AttentionIo<'_>,
        parts: &[KvPart<'_>],
    ) -> Result<Cascade, AttentionError> {
        let problem = &self.plan.problem;
        let refuse = |reason| Err(AttentionError::Cascade { reason });
        let Some(pages) = problem.pages else {
            return refuse("its keys must lie in pages");
        };
        if shared.tokens == 0 || !shared.tokens.is_multiple_of(pages.page_tokens) {
            return refuse("the shared prefix must be one page or more, and whole pages");
        }
        if shared.tokens >= problem.max_keys {
            return refuse("the shared prefix must be shorter than the problem's keys");
        }
        let gpu = self.own.plan().gpu();
        let rows = u64::from(problem.batch) * u64::from(problem.max_queries);
        let states = rows * u64::from(problem.query_heads);
        let room = |label: &str, width: u32| -> Result<Buffer, AttentionError> {
            Ok(gpu.storage(label, states.saturating_mul(u64::from(width) * 4))?)
        };
        let prefix_output = room("prefix output", problem.value_dim)?;
        let own_output = room("own output", problem.value_dim)?;
        let (prefix_lse, own_lse) = (room("prefix lse", 1)?, room("own lse", 1)?);
        let rows = rows as u32;
        let prefix_lengths = gpu.storage_with(
            "prefix lengths",
            lengths(&[(rows, shared.tokens)]).as_flattened(),
        )?;

        let of_sequence = Pages {
            first_sequence: pages.first_sequence.saturating_add(shared.sequence),
            ..pages
        };
        let after = Pages {
            first_page: shared.tokens / pages.page_tokens,
            ..pages
        };
        let prefix = PreparedAttention {
            plan: self.prefix.plan.with_pages(of_sequence, 0),
            ..self.prefix.clone()
        };
        let own = PreparedAttention {
            plan: self.own.plan.with_pages(after, shared.tokens),
            ..self.own.clone()
        };
        let prefix_call = prefix.bind_parts(
            &prefix.workspace()?,
            &AttentionIo {
                output: BufferView::whole(&prefix_output),
                lse: Some(BufferView::whole(&prefix_lse)),
                lengths: BufferView::whole(&prefix_lengths),
                tree: None,
                ..*io
            },
            parts,
        )?;
        let own_call = own.bind_parts(
            &own.workspace()?,
            &AttentionIo {
                output: BufferView::whole(&own_output),
                lse: Some(BufferView::whole(&own_lse)),
                ..*io
            },
            parts,
        )?;
        // The output is checked as that of the call without sharing would be.
        let plain = PreparedAttention {
            plan: self.own.plan.with_problem(problem),
            ..self.own.clone()
        };
        plain.check(io, parts)?;
        let params = gpu.uniform("cascade params", &plain.params(0, 0));
        let mut views = vec![
            ("params", BufferView::whole(&params)),
            ("lengths", io.lengths),
            ("prefix output", BufferView::whole(&prefix_output)),
            ("prefix lse", BufferView::whole(&prefix_lse)),
            ("own output", BufferView::whole(&own_output)),
            ("own lse", BufferView::whole(&own_lse)),
            ("output", io.output),
        ];
        views.extend(io.lse.map(|lse| ("lse", lse)));
        Ok(Cascade {
            prefix: prefix_call,
            own: own_call,
            merge: Dispatch::new(self.merge.clone(), gpu.bind(&self.merge, &views)?),
            tokens: shared.tokens,
            groups: [problem.query_heads, problem.batch],
            max_queries: problem.max_queries,
            batch: problem.batch,
        })
    }
}

impl Cascade {
    /// Records the calls for at most `queries` queries and `keys` keys a sequence, the shared ones among them.
    pub fn encode(&self, pass: &mut ComputePass<'_>, queries: u32, keys: u32) {
        let queries = queries.min(self.max_queries);
        // Rows of the packed call lie at the capacity's distance: all are computed, used or not.
        let rows = (self.batch - 1) * self.max_queries + queries;
        self.prefix.encode(pass, rows, self.tokens);
        self.own
            .encode(pass, queries, keys.saturating_sub(self.tokens));
        let [heads, batch] = self.groups;
        self.merge.encode(pass, [heads, queries, batch]);
    }
}
