//! What a generated case is made of: the matrix picks from lists, random problems draw freely.

use sunfleck::{
    attention::{AttentionProblem, BiasLayout, Element, Mask, Pages, RaggedTotals, TensorLayout},
    tree::{DraftTree, DrawKind, NONE},
};

use super::{case::Case, tensors};
use crate::random::Random;

/// Everything that a case depends on.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub head_dim: u32,
    pub value_dim: u32,
    pub group: u32,
    pub kv_heads: u32,
    pub sequences: Vec<(u32, u32)>, // queries, keys
    /// Capacity above the longest sequence.
    pub spare: (u32, u32), // queries, keys
    pub ragged: bool,
    pub placement: Placement,
    pub mask: MaskKind,
    pub window: Option<u32>,
    pub softcap: Option<f32>,
    pub alibi: bool,
    pub bias: BiasKind,
    pub sinks: bool,
    pub lse: bool,
    pub elements: [Element; 4], // query, key, value, output
    pub invariant: bool,
    /// Whether the call is recorded for the longest sequence, not for the capacity.
    pub tight: bool,
    pub seed: u64,
}

/// How the tensors lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// `[batch, token, head, dim]`.
    TokenMajor,
    /// `[batch, head, token, dim]`.
    HeadMajor,
    /// Head-major with a gap after each row, head and sequence.
    Gaps,
    /// `[head, batch, token, dim]`: a permuted view.
    Permuted,
    /// K and V interleaved in one buffer: for each token the heads of K, then those of V.
    Joined,
    /// Pages of so many tokens for K and V, `[head, page, slot, dim]`, Q and O as
    /// [`Self::TokenMajor`].
    Paged(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskKind {
    None,
    Causal,
    /// Half of the keys are the prefix.
    Prefix,
    Tree,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BiasKind {
    None,
    /// One row of keys for all.
    Shared,
    /// One for each head.
    Heads,
    /// One for each sequence, head and query.
    Dense,
}

impl Recipe {
    /// Most queries and keys of a sequence.
    fn capacity(&self) -> (u32, u32) {
        let longest = |of: fn(&(u32, u32)) -> u32| self.sequences.iter().map(of).max().unwrap_or(1);
        let (queries, keys) = (longest(|s| s.0), longest(|s| s.1));
        (queries.max(1) + self.spare.0, keys.max(1) + self.spare.1)
    }

    pub fn case(&self) -> Case {
        let (max_queries, max_keys) = self.capacity();
        let heads = self.group * self.kv_heads;
        let batch = self.sequences.len() as u32;
        let mut p =
            AttentionProblem::new(heads, self.kv_heads, self.head_dim, max_queries, max_keys);
        p.batch = batch;
        p.value_dim = self.value_dim;
        let (mut queries, mut keys) = (max_queries, max_keys);
        if self.ragged {
            let sum = |of: fn(&(u32, u32)) -> u32| self.sequences.iter().map(of).sum::<u32>();
            queries = sum(|s| s.0).max(max_queries) + 3;
            keys = sum(|s| s.1).max(max_keys) + 5;
            p.ragged = Some(RaggedTotals { queries, keys });
        }
        let [q, k, v, o] = self.elements;
        let place = |element, tokens, heads, dim| {
            self.placement.layout(element, [batch, tokens, heads, dim])
        };
        p.query = place(q, queries, heads, self.head_dim);
        p.key = place(k, keys, self.kv_heads, self.head_dim);
        p.value = place(v, keys, self.kv_heads, self.value_dim);
        p.output = place(o, queries, heads, self.value_dim);
        let mut value_offset = None;
        if let Placement::Paged(page_tokens) = self.placement {
            let used = |keys: u32| keys.div_ceil(page_tokens);
            let pages = Pages {
                page_tokens,
                pool_pages: self.sequences.iter().map(|s| used(s.1)).sum::<u32>() + 2,
                table_stride: used(max_keys) + 4,
                first_page: (self.seed % 3) as u32,
                first_sequence: (self.seed % 2) as u32,
            };
            // In the pool a page takes the place of a sequence.
            let pool = |element: Element, dim: u32| {
                let dim = element.row_elements(dim);
                TensorLayout {
                    element,
                    batch_stride: page_tokens * dim,
                    token_stride: dim,
                    head_stride: pages.pool_pages * page_tokens * dim,
                }
            };
            p.key = pool(k, self.head_dim);
            p.value = pool(v, self.value_dim);
            p.pages = Some(pages);
        }
        if self.placement == Placement::Joined {
            // A view starts at a multiple of 256 bytes, and so does the next token.
            let bytes = |element: Element, dim: u32| {
                (self.kv_heads * element.row_bytes(dim) as u32).next_multiple_of(256)
            };
            let (k_bytes, v_bytes) = (bytes(k, self.head_dim), bytes(v, self.value_dim));
            for layout in [&mut p.key, &mut p.value] {
                layout.token_stride = (k_bytes + v_bytes) * 8 / layout.element.bits() as u32;
                layout.batch_stride = layout.token_stride * keys;
            }
            value_offset = Some(k_bytes as usize);
        }
        p.mask = match self.mask {
            MaskKind::None => Mask::None,
            MaskKind::Causal => Mask::Causal,
            MaskKind::Prefix => Mask::Prefix {
                keys: max_keys / 2 + 1 + left_out(&p),
            },
            MaskKind::Tree => Mask::Tree {
                max_nodes: max_queries + 3,
            },
        };
        p.window = self.window;
        p.softcap = self.softcap;
        let mut random = Random(self.seed ^ 0x5eed);
        p.alibi_slopes = self
            .alibi
            .then(|| (0..heads).map(|_| random.unit() as f32).collect());
        p.sinks = self.sinks.then(|| random.normals(heads as usize));
        p.bias = match self.bias {
            BiasKind::None => None,
            BiasKind::Shared => Some(BiasLayout::default()),
            BiasKind::Heads => Some(BiasLayout {
                head_stride: max_keys + 1,
                ..Default::default()
            }),
            BiasKind::Dense => Some(BiasLayout {
                batch_stride: max_keys * max_queries * heads,
                head_stride: max_keys * max_queries,
                query_stride: max_keys,
            }),
        };
        p.lse = self.lse;
        p.invariant = self.invariant;
        let mut case = Case::new(p, self.sequences.clone());
        case.value_offset = value_offset;
        case.tight = self.tight;
        if self.mask == MaskKind::Tree {
            let nodes = self.sequences.iter().map(|s| s.0.max(1));
            case.trees = nodes.map(|nodes| random_tree(nodes, &mut random)).collect();
        }
        case
    }

    /// Bytes of the largest buffer.
    pub fn largest_buffer(&self) -> u64 {
        let (queries, keys) = self.capacity();
        let (queries, keys) = (u64::from(queries), u64::from(keys));
        let heads = u64::from(self.group * self.kv_heads);
        let batch = self.sequences.len() as u64;
        let dim = u64::from(self.head_dim.max(self.value_dim)) + 64;
        let kv = 2 * keys * u64::from(self.kv_heads) * dim;
        let bias = match self.bias {
            BiasKind::Dense => queries * keys * heads,
            _ => 0,
        };
        batch * kv.max(queries * heads * dim).max(bias) * 4
    }

    /// Multiplications and additions of the kernels: every key of the longest spans for every row.
    pub fn work(&self) -> u64 {
        let heads = u64::from(self.group * self.kv_heads);
        let dims = u64::from(self.head_dim + self.value_dim);
        let pairs = |(queries, keys): &(u32, u32)| u64::from(*queries) * u64::from(*keys);
        self.sequences.iter().map(pairs).sum::<u64>() * heads * dims
    }
}

impl Placement {
    /// Strides for sizes `[batch, token, head, dim]`; K and V that are joined get theirs later.
    fn layout(self, element: Element, [batch, tokens, heads, dim]: [u32; 4]) -> TensorLayout {
        match self {
            Self::TokenMajor | Self::Joined | Self::Paged(_) => {
                TensorLayout::token_major(element, tokens, heads, dim)
            }
            Self::HeadMajor => TensorLayout::head_major(element, tokens, heads, dim),
            Self::Gaps => {
                let token_stride = element.row_elements(dim) + 8;
                let head_stride = tokens * token_stride + 8;
                TensorLayout {
                    element,
                    batch_stride: heads * head_stride + 24,
                    token_stride,
                    head_stride,
                }
            }
            Self::Permuted => {
                let dim = element.row_elements(dim);
                TensorLayout {
                    element,
                    batch_stride: tokens * dim,
                    token_stride: dim,
                    head_stride: batch * tokens * dim,
                }
            }
        }
    }
}

/// Keys of every sequence that its call leaves out.
pub fn left_out(problem: &AttentionProblem) -> u32 {
    problem
        .pages
        .map_or(0, |pages| pages.first_page * pages.page_tokens)
}

/// A tree whose nodes have one of the few nodes before them as parent: chains and branches.
pub fn random_tree(nodes: u32, random: &mut Random) -> DraftTree {
    let parents = (0..nodes).map(|node| match node.checked_sub(1) {
        None => NONE,
        Some(last) => last - random.below(4.min(node)),
    });
    DraftTree::from_parents((0..nodes).collect(), parents.collect(), DrawKind::TopK).unwrap()
}

/// Lengths of `batch` sequences of at most `queries` and `keys`: the first is the longest. A tree
/// has no more nodes than keys.
pub fn uneven(batch: u32, queries: u32, keys: u32, tree: bool) -> Vec<(u32, u32)> {
    let all = [
        (queries, keys),
        (1, keys / 3 + 1),
        (queries / 2 + 1, keys / 2 + 1),
    ];
    let fit = |&(queries, keys): &(u32, u32)| match tree {
        true => (queries.min(keys), keys),
        false => (queries, keys),
    };
    all.iter().take(batch as usize).map(fit).collect()
}

const _: () = assert!(tensors::RED_ZONE == 256);
