//! What is to be computed: shapes, storage, mask.

use super::{AttentionError, Element, Pages, TensorLayout, kernels::MAX_HEADS};
use crate::{cache::CacheLayout, tree};

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mask {
    /// All of them.
    None,
    /// Bottom-right aligned: query `i` of `q` sees key `j` of `k` iff `j <= i + k - q`.
    Causal,
    /// Causal, but every query sees the first `keys` keys (a prefix language model).
    Prefix {
        /// Keys of the prefix.
        keys: u32,
    },
    /// The queries are the nodes of a draft tree and the last keys: a node sees every committed
    /// key, its ancestors and itself (Miao et al. 2023, SpecInfer). The blob of
    /// [`DraftTree`](super::DraftTree) says who those are.
    ///
    /// A sequence has at least as many keys as nodes. With
    /// [`AttentionProblem::invariant`], a node whose ancestors have the first slots (a chain, and the
    /// first branch of a tree in depth-first order) has the bits that decoding its path gives. On another
    /// branch the same terms fall into other tiles: the output differs from that of decoding by
    /// rounding, at most `2^-21 (2 nodes + 2 R + 20) max |v|` where `R` is the distance of the row's
    /// scores in powers of two, and in practice by a few units in the last place. (The tiles of the
    /// draft, at most `nodes / 4 + 2`, each cost an addition and an `exp2` of error `3 + 2 |x|` units;
    /// a path has at most `nodes` terms; both orders, numerator and denominator.)
    Tree {
        /// Nodes the blob has room for: its stride; at least `max_queries`.
        max_nodes: u32,
    },
    /// As [`Tree`](Self::Tree), but the queries are only the last nodes of the tree, as many as there are; the keys
    /// of the nodes before them were computed in earlier calls and count as keys before the first query. So a draft
    /// model runs level by level on a tree that grows.
    TreeEnd {
        /// Nodes the blob has room for: its stride; at least `max_queries`.
        max_nodes: u32,
    },
}

impl Mask {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            // One kernel: a prefix of no keys is causal.
            Self::Causal | Self::Prefix { .. } => "causal",
            Self::Tree { .. } => "tree",
            Self::TreeEnd { .. } => "tree-end",
        }
    }

    /// Nodes that the blob of a draft tree has room for, where the mask is one.
    pub(super) fn tree_nodes(self) -> Option<u32> {
        match self {
            Self::Tree { max_nodes } | Self::TreeEnd { max_nodes } => Some(max_nodes),
            _ => None,
        }
    }
}

/// Strides of an additive bias `[batch, query_head, query, key]` of f32, in elements; keys are
/// contiguous. A stride of 0 broadcasts over that axis. A bias of -inf hides the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BiasLayout {
    /// From one sequence to the next.
    pub batch_stride: u32,
    /// From one query head to the next.
    pub head_stride: u32,
    /// From one query to the next.
    pub query_stride: u32,
}

/// Tokens in the tensors of a ragged batch, each at least the most of one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaggedTotals {
    /// Tokens in the query and output tensors.
    pub queries: u32,
    /// Tokens in the key and value tensors.
    pub keys: u32,
}

impl BiasLayout {
    /// Bytes before the last row of keys.
    pub(super) fn extent(&self, batch: u32, heads: u32, queries: u32) -> u64 {
        let last = |count: u32, stride: u32| u64::from(count - 1) * u64::from(stride);
        last(batch, self.batch_stride)
            .saturating_add(last(heads, self.head_stride))
            .saturating_add(last(queries, self.query_stride))
            .saturating_mul(4)
    }
}

/// An attention problem: for each sequence and head, `O = softmax(s) V` over the visible keys with
/// `s = softcap(scale * Q K^T) + ALiBi + bias`.
///
/// `max_queries` and `max_keys` are capacities. The lengths of a call live in a GPU buffer.
///
/// What a row does not see has no influence on it, whatever it holds, NaN included: tokens beyond
/// the lengths, gaps between strides, and keys and values that mask, window or bias hide. Rows
/// beyond the lengths are not written. Scores are finite numbers: one below -5e29 counts as hidden.
///
/// Vaswani et al. 2017, section 3.2.1; grouped heads as in Ainslie et al. 2023 (GQA).
///
/// # Example
/// Verification of up to 16 drafted tokens over a cache of 4,096 tokens in f16.
///
/// ```
/// use sunfleck::attention::{AttentionProblem, Element, Mask, TensorLayout};
///
/// let mut problem = AttentionProblem::new(32, 8, 128, 16, 4096);
/// problem.key = TensorLayout::head_major(Element::F16, 4096, 8, 128); // [kv_head, key, dim]
/// problem.value = problem.key;
/// problem.mask = Mask::Tree { max_nodes: 16 };
/// problem.invariant = true;
/// assert_eq!(problem.group(), 4); // query heads that share the reads of a KV head
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionProblem {
    /// Sequences.
    pub batch: u32,
    /// Query heads, a multiple of `kv_heads`.
    pub query_heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Elements of a query or key head: a multiple of 4, at most 256.
    pub head_dim: u32,
    /// Elements of a value head: a multiple of 4, at most 256.
    pub value_dim: u32,
    /// Most queries of one sequence.
    pub max_queries: u32,
    /// Most keys of one sequence.
    pub max_keys: u32,
    /// `Q`: `[batch, query, query_head, head_dim]` in any strides.
    pub query: TensorLayout,
    /// `K`: `[batch, key, kv_head, head_dim]` in any strides.
    pub key: TensorLayout,
    /// `V`: `[batch, key, kv_head, value_dim]` in any strides.
    pub value: TensorLayout,
    /// `O`: `[batch, query, query_head, value_dim]` in any strides.
    pub output: TensorLayout,
    /// Keys and values in pages of a pool. The batch strides of K and V are then from one page to the next,
    /// and every sequence finds its pages in the table of the call.
    pub pages: Option<Pages>,
    /// A ragged batch: the tokens of all sequences follow each other, and the lengths buffer says
    /// where each sequence starts. Batch strides are not used then.
    pub ragged: Option<RaggedTotals>,
    /// Which keys a query sees.
    pub mask: Mask,
    /// Sliding window: of the visible keys, those less than this many positions away (Beltagy et al.
    /// 2020, Longformer; Mistral). In a draft tree a node's depth is its position.
    pub window: Option<u32>,
    /// Factor on the scores; 1/sqrt(head_dim) in most models.
    pub scale: f32,
    /// Scores become `softcap * tanh(score / softcap)` (Gemma 2).
    pub softcap: Option<f32>,
    /// ALiBi (Press et al. 2022): `-slope * distance` in positions on the scores, one slope a query
    /// head, at most 256 heads.
    pub alibi_slopes: Option<Vec<f32>>,
    /// An additive bias on the scores, given as an argument of the call.
    pub bias: Option<BiasLayout>,
    /// Attention sinks (Xiao et al. 2023, as learned logits): one more logit a query head in the
    /// denominator, with no value; at most 256 heads. The LSE includes it.
    pub sinks: Option<Vec<f32>>,
    /// Whether the LSE of each row, the natural logarithm of its denominator, is written:
    /// `[batch, max_queries, query_head]` of f32.
    pub lse: bool,
    /// The invariance contract: the bits of a row depend on its own query and keys only, not on
    /// how many other queries there are. Checking a drafted token of a chain then gives exactly
    /// what decoding it would have given; past a fork of a draft tree the ancestors' keys lie in
    /// other slots, and it agrees to rounding. Without it, calls of many rows take a faster kernel
    /// that adds in another order.
    ///
    /// The bits do not depend on batch, capacity, strides or padding either. [`Mask::Tree`] says how far
    /// apart a tree's node and its decoded path may be.
    pub invariant: bool,
}

impl AttentionProblem {
    /// One sequence, dense f32 tensors in `[token, head, dim]` order, causal, scale
    /// 1/sqrt(head_dim), no LSE, not invariant. Change the public fields for anything else.
    pub fn new(
        query_heads: u32,
        kv_heads: u32,
        head_dim: u32,
        max_queries: u32,
        max_keys: u32,
    ) -> Self {
        let dense =
            |tokens, heads| TensorLayout::token_major(Element::F32, tokens, heads, head_dim);
        Self {
            batch: 1,
            query_heads,
            kv_heads,
            head_dim,
            value_dim: head_dim,
            max_queries,
            max_keys,
            query: dense(max_queries, query_heads),
            key: dense(max_keys, kv_heads),
            value: dense(max_keys, kv_heads),
            output: dense(max_queries, query_heads),
            pages: None,
            ragged: None,
            mask: Mask::Causal,
            window: None,
            scale: 1.0 / (head_dim as f32).sqrt(),
            softcap: None,
            alibi_slopes: None,
            bias: None,
            sinks: None,
            lse: false,
            invariant: false,
        }
    }

    /// Keys and values as they lie in a cache: sets `key`, `value` and `pages`. The problem's batch is the
    /// cache's sequences.
    #[must_use]
    pub fn with_cache(mut self, layout: CacheLayout) -> Self {
        (self.key, self.value, self.pages) = (layout.key, layout.value, layout.pages);
        self
    }

    /// Query heads that share a KV head.
    pub fn group(&self) -> u32 {
        self.query_heads / self.kv_heads.max(1)
    }

    pub(super) fn check(&self) -> Result<(), AttentionError> {
        for (name, value) in [
            ("batch", self.batch),
            ("query_heads", self.query_heads),
            ("kv_heads", self.kv_heads),
            ("max_queries", self.max_queries),
            ("max_keys", self.max_keys),
        ] {
            if value == 0 {
                return Err(AttentionError::Zero { name });
            }
        }
        if !self.query_heads.is_multiple_of(self.kv_heads) {
            return Err(AttentionError::HeadGroups {
                query_heads: self.query_heads,
                kv_heads: self.kv_heads,
            });
        }
        for (name, dim) in [("head_dim", self.head_dim), ("value_dim", self.value_dim)] {
            if dim == 0 || !dim.is_multiple_of(4) || dim > 256 {
                return Err(AttentionError::HeadDim { name, dim });
            }
        }
        for (name, layout) in [
            ("query", &self.query),
            ("key", &self.key),
            ("value", &self.value),
            ("output", &self.output),
        ] {
            if layout.element.is_quantised() && !matches!(name, "key" | "value") {
                return Err(AttentionError::Quantised {
                    name,
                    element: layout.element.name(),
                });
            }
            let unit = layout.element.unit();
            for stride in [layout.batch_stride, layout.token_stride, layout.head_stride] {
                if !stride.is_multiple_of(unit) {
                    return Err(AttentionError::Stride { name, stride, unit });
                }
            }
            // Kernels count quads, or words of integers, in u32.
            let unit_bits = layout.element.bits() * u64::from(unit);
            if self.extent(name).saturating_mul(8) / unit_bits > u64::from(u32::MAX) {
                return Err(AttentionError::TooLarge {
                    name,
                    bytes: self.extent(name),
                });
            }
        }
        self.check_pages()?;
        if self.output_rows_overlap() {
            return Err(AttentionError::Overlap { name: "output" });
        }
        // Kernels take powers of 2: what they multiply by must be finite too.
        let overflows = |value: f32| !(value * std::f32::consts::LOG2_E).is_finite();
        if overflows(self.scale) {
            return Err(AttentionError::Scale { scale: self.scale });
        }
        if let Some(softcap) = self.softcap
            && (overflows(softcap) || softcap <= 0.0)
        {
            return Err(AttentionError::Softcap { softcap });
        }
        if let Some(ragged) = self.ragged
            && (ragged.queries < self.max_queries || ragged.keys < self.max_keys)
        {
            return Err(AttentionError::RaggedTotals {
                queries: ragged.queries,
                keys: ragged.keys,
                max_queries: self.max_queries,
                max_keys: self.max_keys,
            });
        }
        if self.window == Some(0) {
            return Err(AttentionError::Zero { name: "window" });
        }
        for (name, values) in [("alibi_slopes", &self.alibi_slopes), ("sinks", &self.sinks)] {
            let Some(values) = values else { continue };
            if self.query_heads > MAX_HEADS {
                return Err(AttentionError::HeadValues {
                    name,
                    heads: self.query_heads,
                });
            }
            if values.len() != self.query_heads as usize || values.iter().any(|v| overflows(*v)) {
                return Err(AttentionError::HeadList {
                    name,
                    needed: self.query_heads,
                    given: values.len(),
                });
            }
        }
        if let Some(max_nodes) = self.mask.tree_nodes()
            && max_nodes < self.max_queries
        {
            return Err(AttentionError::TreeStride {
                max_nodes,
                max_queries: self.max_queries,
            });
        }
        if let Some(max_nodes) = self.mask.tree_nodes() {
            // Kernels count the blob's words in u32. Beyond this bound the words of one blob would
            // not fit the host's own numbers in a browser.
            const MOST: u32 = 1 << 17;
            let words = tree::blob_words(max_nodes.min(MOST) as usize) as u64;
            let words = words.saturating_mul(u64::from(self.batch));
            if max_nodes > MOST || words > u64::from(u32::MAX) {
                return Err(AttentionError::TooLarge {
                    name: "tree",
                    bytes: words.saturating_mul(4),
                });
            }
        }
        Ok(())
    }

    fn check_pages(&self) -> Result<(), AttentionError> {
        let Some(pages) = self.pages else {
            return Ok(());
        };
        if !pages.page_tokens.is_power_of_two() || !(16..=256).contains(&pages.page_tokens) {
            return Err(AttentionError::PageTokens {
                page_tokens: pages.page_tokens,
            });
        }
        if pages.pool_pages == 0 {
            return Err(AttentionError::Zero { name: "pool_pages" });
        }
        let first_key = u64::from(pages.first_page) * u64::from(pages.page_tokens);
        if first_key + u64::from(self.max_keys) > i32::MAX as u64 {
            return Err(AttentionError::TooLarge {
                name: "pages",
                bytes: (u64::from(pages.first_page) + 1).saturating_mul(4),
            });
        }
        let needed = (self.max_keys.div_ceil(pages.page_tokens)).saturating_add(pages.first_page);
        if pages.table_stride < needed {
            return Err(AttentionError::PageTable {
                max_keys: self.max_keys,
                page_tokens: pages.page_tokens,
                needed,
                given: pages.table_stride,
            });
        }
        let sequences = u64::from(self.batch) + u64::from(pages.first_sequence);
        let entries = u64::from(pages.table_stride) * sequences;
        if entries > u64::from(u32::MAX) {
            return Err(AttentionError::TooLarge {
                name: "pages",
                bytes: entries.saturating_mul(4),
            });
        }
        if self.mask.tree_nodes().is_some() && self.bias.is_some() {
            return Err(AttentionError::StorageBuffers);
        }
        Ok(())
    }

    /// Whether two rows of the output share elements. Sorted by stride, each axis must step over
    /// all that the axes before it cover.
    fn output_rows_overlap(&self) -> bool {
        let batch = if self.ragged.is_some() { 1 } else { self.batch };
        let mut axes = [
            (self.output.batch_stride, batch),
            (self.output.token_stride, self.total_queries()),
            (self.output.head_stride, self.query_heads),
        ];
        axes.sort_unstable();
        let mut covered = u64::from(self.value_dim);
        for (stride, count) in axes.into_iter().filter(|(_, count)| *count > 1) {
            if u64::from(stride) < covered {
                return true;
            }
            covered += u64::from(stride) * u64::from(count - 1);
        }
        false
    }

    /// Tokens of one batch entry of the query tensor; of the whole tensor in a ragged batch.
    pub(super) fn total_queries(&self) -> u32 {
        self.ragged
            .map_or(self.max_queries, |ragged| ragged.queries)
    }

    /// As [`Self::total_queries`] for keys.
    pub(super) fn total_keys(&self) -> u32 {
        self.ragged.map_or(self.max_keys, |ragged| ragged.keys)
    }

    /// Stride from one sequence to the next, in what kernels address: none in a ragged batch.
    pub(super) fn batch_units(&self, layout: &TensorLayout) -> u32 {
        match self.ragged {
            Some(_) => 0,
            None => layout.units(layout.batch_stride),
        }
    }

    /// As [`Self::batch_units`] for keys and values: from one page to the next where there are pages.
    pub(super) fn kv_batch_units(&self, layout: &TensorLayout) -> u32 {
        match self.pages {
            Some(_) => layout.units(layout.batch_stride),
            None => self.batch_units(layout),
        }
    }

    /// Bytes that the view of a tensor must cover.
    pub(super) fn extent(&self, tensor: &str) -> u64 {
        self.part_extent(tensor, self.kv_heads)
    }

    /// As [`Self::extent`], with keys and values of only some KV heads.
    pub(super) fn part_extent(&self, tensor: &str, kv_heads: u32) -> u64 {
        let batch = match self.ragged {
            Some(_) => 1,
            None => self.batch,
        };
        let (queries, keys) = (self.total_queries(), self.total_keys());
        let heads = self.query_heads;
        let (kv_batch, keys) = match self.pages {
            Some(pages) => (pages.pool_pages, pages.page_tokens),
            None => (batch, keys),
        };
        match tensor {
            "query" => self.query.extent(batch, queries, heads, self.head_dim),
            "key" => self.key.extent(kv_batch, keys, kv_heads, self.head_dim),
            "value" => self.value.extent(kv_batch, keys, kv_heads, self.value_dim),
            _ => self.output.extent(batch, queries, heads, self.value_dim),
        }
    }
}
