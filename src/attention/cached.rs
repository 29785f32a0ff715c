//! Attention over a layer of a cache, in however many buffers it lies.

use super::{
    Attention, AttentionError, AttentionIo, AttentionWorkspace, Cascade, PreparedAttention,
    PreparedCascade, SharedPrefix, call::KvPart,
};
use crate::{cache::KvCache, gpu::BufferView};

/// The buffers of an attention call whose keys and values lie in a [`KvCache`]: those of [`AttentionIo`] but for
/// keys, values and page table.
#[derive(Clone, Copy, Debug)]
pub struct CacheIo<'a> {
    /// See [`AttentionIo::query`].
    pub query: BufferView<'a>,
    /// See [`AttentionIo::output`].
    pub output: BufferView<'a>,
    /// See [`AttentionIo::lse`].
    pub lse: Option<BufferView<'a>>,
    /// See [`AttentionIo::lengths`].
    pub lengths: BufferView<'a>,
    /// See [`AttentionIo::bias`].
    pub bias: Option<BufferView<'a>>,
    /// See [`AttentionIo::tree`].
    pub tree: Option<BufferView<'a>>,
}

impl PreparedAttention {
    /// Binds a layer of a cache. A layer that is larger than a binding is read part by part, a dispatch for some of
    /// its KV heads each; the result has the same bits as that of one part.
    ///
    /// # Errors
    /// [`AttentionError::Argument`] for a cache that is not the one the problem was made for
    /// ([`AttentionProblem::with_cache`](super::AttentionProblem::with_cache)), and a layer past its last; and those
    /// of [`Self::bind`].
    ///
    /// # Example
    /// ```
    /// use sunfleck::attention::{AttentionProblem, CacheIo, Element, lengths};
    /// use sunfleck::cache::{CacheShape, KvCache};
    /// # use sunfleck::{gpu::Gpu, wgpu};
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = wgpu::Instance::default();
    /// # let adapter = instance.request_adapter(&Default::default()).await?;
    /// # let (device, queue) = adapter.request_device(&Default::default()).await?;
    /// # let gpu = Gpu::new(&device, &queue);
    /// // Two layers of 2 KV heads of 64, int8, for one sequence of up to 4,096 tokens.
    /// let cache = KvCache::contiguous(&gpu, CacheShape::new(2, 2, 64, Element::Q8), 1, 4096)?;
    /// let problem = AttentionProblem::new(8, 2, 64, 1, 4096).with_cache(cache.layout());
    /// let attention = gpu.plan_attention(&problem)?.prepare().await?;
    /// let workspace = attention.workspace()?; // one for all layers
    /// let (query, output) = (gpu.storage("query", 8 * 64 * 4)?, gpu.storage("output", 8 * 64 * 4)?);
    /// let sizes = gpu.storage_with("lengths", &lengths(&[(1, 300)]))?;
    /// let io = CacheIo {
    ///     query: (&query).into(),
    ///     output: (&output).into(),
    ///     lengths: (&sizes).into(),
    ///     lse: None,
    ///     bias: None,
    ///     tree: None,
    /// };
    /// let layers = [0, 1].map(|layer| attention.bind_cache(&workspace, &cache, layer, &io));
    /// assert!(layers.iter().all(|layer| layer.is_ok()));
    /// assert!(attention.bind_cache(&workspace, &cache, 2, &io).is_err());
    /// # Ok(())
    /// # }
    /// # pollster::block_on(example()).unwrap();
    /// ```
    pub fn bind_cache(
        &self,
        workspace: &AttentionWorkspace,
        cache: &KvCache,
        layer: u32,
        io: &CacheIo<'_>,
    ) -> Result<Attention, AttentionError> {
        let (io, parts) = layer_of(self, cache, layer, io)?;
        self.bind_parts(workspace, &io, &parts)
    }
}

impl PreparedCascade {
    /// As [`Self::bind`], over a layer of a cache: see [`PreparedAttention::bind_cache`].
    ///
    /// # Errors
    /// Those of [`Self::bind`] and [`PreparedAttention::bind_cache`].
    pub fn bind_cache(
        &self,
        shared: SharedPrefix,
        cache: &KvCache,
        layer: u32,
        io: &CacheIo<'_>,
    ) -> Result<Cascade, AttentionError> {
        let (io, parts) = layer_of(self.own(), cache, layer, io)?;
        self.bind_parts(shared, &io, &parts)
    }
}

fn layer_of<'a>(
    attention: &PreparedAttention,
    cache: &'a KvCache,
    layer: u32,
    io: &CacheIo<'a>,
) -> Result<(AttentionIo<'a>, Vec<KvPart<'a>>), AttentionError> {
    let problem = attention.plan().problem();
    let layout = cache.layout();
    let same_pages = problem
        .pages
        .map(|pages| (pages.page_tokens, pages.pool_pages))
        == layout
            .pages
            .map(|pages| (pages.page_tokens, pages.pool_pages));
    let same_heads = problem.kv_heads == cache.shape().kv_heads;
    if !same_pages || !same_heads || problem.key != layout.key || problem.value != layout.value {
        return Err(AttentionError::Argument {
            name: "cache",
            problem: "has other KV heads, elements or pages than the problem; set them by `with_cache`",
        });
    }
    let parts: Vec<KvPart<'_>> = (cache.parts(layer).into_iter())
        .map(|part| KvPart {
            heads: part.heads,
            key: part.keys,
            value: part.values,
        })
        .collect();
    let Some(first) = parts.first() else {
        return Err(AttentionError::Argument {
            name: "layer",
            problem: "is past the last one of the cache",
        });
    };
    let io = AttentionIo {
        query: io.query,
        key: first.key,
        value: first.value,
        output: io.output,
        lse: io.lse,
        lengths: io.lengths,
        bias: io.bias,
        tree: io.tree,
        pages: cache.page_table(),
    };
    Ok((io, parts))
}
