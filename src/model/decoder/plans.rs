//! The attention of each kind of step, planned once for all layers.

use wgpu::Buffer;

use super::activations::stride;
use crate::{
    attention::{
        Attention, AttentionProblem, AttentionWorkspace, CacheIo, Element, Mask, PreparedAttention,
        RaggedTotals, TensorLayout,
    },
    cache::KvCache,
    gpu::{BufferView, Gpu},
    model::{Hyperparameters, LoadError},
};

/// Attention over one cache for prompts, chains and trees, with the workspace they share.
#[derive(Debug)]
pub(crate) struct Plans {
    prompt: PreparedAttention,
    chain: PreparedAttention,
    tree: PreparedAttention,
    has_trees: bool,
    workspace: AttentionWorkspace,
}

/// The attention of one layer, bound for each kind of step.
#[derive(Debug)]
pub(crate) struct LayerAttention {
    pub prompt: Attention,
    pub chain: Attention,
    pub tree: Attention,
}

impl Plans {
    /// Plans and compiles for at most `rows` rows over `cache`; trees have blobs of stride `rows`.
    pub async fn prepare(
        gpu: &Gpu,
        h: &Hyperparameters,
        cache: &KvCache,
        rows: u32,
    ) -> Result<Self, LoadError> {
        let mask = Mask::Tree { max_nodes: rows };
        Self::prepare_with(gpu, h, cache, rows, rows, mask).await
    }

    /// As [`prepare`](Self::prepare), with trees of at most `tree_rows` rows at a time under a mask of their own.
    pub async fn prepare_with(
        gpu: &Gpu,
        h: &Hyperparameters,
        cache: &KvCache,
        rows: u32,
        tree_rows: u32,
        mask: Mask,
    ) -> Result<Self, LoadError> {
        let prompt = plan(gpu, h, cache, rows, Mask::Causal, false, None).await?;
        // The prompt comes first.
        let gpu = &gpu.later();
        let chain = plan(gpu, h, cache, rows, Mask::Causal, true, None).await?;
        let tree = plan(gpu, h, cache, tree_rows, mask, true, None).await?;
        // The layers and the kinds of steps share one workspace: that of the plan that needs most.
        let largest = [&prompt, &chain, &tree]
            .into_iter()
            .max_by_key(|prepared| prepared.plan().workspace_bytes())
            .unwrap_or(&chain);
        let workspace = largest.workspace()?;
        Ok(Self {
            prompt,
            chain,
            tree,
            has_trees: true,
            workspace,
        })
    }

    /// Plans and compiles for chains of at most `each` rows of every sequence of `cache`, all of them in one
    /// call: whatever kind of step is asked for, it is one of chains.
    pub async fn prepare_batch(
        gpu: &Gpu,
        h: &Hyperparameters,
        cache: &KvCache,
        each: u32,
    ) -> Result<Self, LoadError> {
        let sequences = cache.sequences();
        let ragged = RaggedTotals {
            queries: sequences * each,
            keys: sequences * cache.capacity(),
        };
        let chain = plan(gpu, h, cache, each, Mask::Causal, true, Some(ragged)).await?;
        let workspace = chain.workspace()?;
        Ok(Self {
            prompt: chain.clone(),
            tree: chain.clone(),
            chain,
            has_trees: false,
            workspace,
        })
    }

    /// Binds the buffers of one layer; `blob` holds the trees.
    pub fn bind(
        &self,
        cache: &KvCache,
        layer: u32,
        io: &CacheIo<'_>,
        blob: &Buffer,
    ) -> Result<LayerAttention, LoadError> {
        let tree = CacheIo {
            tree: self.has_trees.then(|| BufferView::whole(blob)),
            ..*io
        };
        let bind = |attention: &PreparedAttention, io: &CacheIo<'_>| {
            attention.bind_cache(&self.workspace, cache, layer, io)
        };
        Ok(LayerAttention {
            prompt: bind(&self.prompt, io)?,
            chain: bind(&self.chain, io)?,
            tree: bind(&self.tree, &tree)?,
        })
    }
}

async fn plan(
    gpu: &Gpu,
    h: &Hyperparameters,
    cache: &KvCache,
    rows: u32,
    mask: Mask,
    invariant: bool,
    ragged: Option<RaggedTotals>,
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
    if ragged.is_some() {
        problem.batch = cache.sequences();
        problem.ragged = ragged;
    }
    problem.mask = mask;
    problem.window = h.sliding_window;
    problem.invariant = invariant;
    Ok(gpu.plan_attention(&problem)?.prepare().await?)
}
