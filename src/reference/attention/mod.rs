//! Scaled dot-product attention, whole and split over keys, with every mask and extra.
//!
//! For each query row: `s_j = softcap(scale q·k_j) + alibi_j + bias_j` over the visible keys,
//! `LSE = ln(sum_j exp s_j [+ exp sink])` and `O = sum_j exp(s_j - LSE) v_j` (Vaswani et al. 2017,
//! section 3.2.1). Splitting over keys and merging by LSE is the online softmax of Milakov and
//! Gimelshein 2018, as in FlashAttention (Dao et al. 2022, section 3.1).

mod merge;
mod problem;

pub use merge::{log_sum_exp, merge_states};

use super::storage::Storage;
use super::{Element, ReferenceError, check_argument};
use problem::Problem;

/// The sizes of one attention problem.
///
/// | tensor | axes in the order of memory |
/// |---|---|
/// | Q | `[batch, query, query_head, head_dim]` |
/// | K | `[batch, key, kv_head, head_dim]` |
/// | V | `[batch, key, kv_head, value_dim]` |
/// | O | `[batch, query, query_head, value_dim]` |
/// | LSE | `[batch, query, query_head]` |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttentionShape {
    /// Sequences in the batch.
    pub batch: usize,
    /// Query heads; a multiple of `kv_heads` (MHA, GQA, MQA).
    pub query_heads: usize,
    /// Key and value heads. Query head `h` reads KV head `h / (query_heads / kv_heads)`.
    pub kv_heads: usize,
    /// Query rows a sequence.
    pub queries: usize,
    /// Keys a sequence.
    pub keys: usize,
    /// Elements of a query and of a key.
    pub head_dim: usize,
    /// Elements of a value.
    pub value_dim: usize,
}

/// Which keys a query may see.
///
/// A query's *position* is `query + keys - queries` (bottom-right alignment: the last query stands at
/// the last key); with more queries than keys the first queries have negative positions and see none.
#[derive(Clone, Copy, Default)]
#[non_exhaustive]
pub enum Mask<'a> {
    /// Every key.
    #[default]
    None,
    /// Keys at or before the query's position.
    Causal,
    /// The keys for which `visible(batch, query, key)` holds: a prefix, anything.
    Visible(&'a dyn Fn(usize, usize, usize) -> bool),
    /// The same where tokens do not stand at their indices, as in a draft tree: windows and ALiBi
    /// count `distance(batch, query, key)`.
    Tree {
        /// Whether the query sees the key.
        visible: &'a dyn Fn(usize, usize, usize) -> bool,
        /// Tokens between the two.
        distance: &'a dyn Fn(usize, usize, usize) -> usize,
    },
}

impl std::fmt::Debug for Mask<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Mask::None => "None",
            Mask::Causal => "Causal",
            Mask::Visible(_) => "Visible(..)",
            Mask::Tree { .. } => "Tree { .. }",
        })
    }
}

/// Everything beside Q, K and V that changes the result. The default is plain unmasked attention.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttentionOptions<'a> {
    /// Factor on `q·k`; `None` is `1 / sqrt(head_dim)`.
    pub scale: Option<f64>,
    /// Scores become `softcap * tanh(score / softcap)` before bias and ALiBi (Gemma 2).
    pub softcap: Option<f64>,
    /// Which keys a query may see.
    pub mask: Mask<'a>,
    /// Sliding window: only keys with `|position - key| < window`, on top of `mask`.
    pub window: Option<usize>,
    /// ALiBi slopes `[query_head]`: adds `-slope * |position - key|` (Press et al. 2022).
    pub alibi_slopes: Option<&'a [f64]>,
    /// Additive bias `[batch, query_head, query, key]`; `-inf` hides a key.
    pub bias: Option<&'a [f64]>,
    /// Attention sinks `[query_head]`: one more logit in the denominator, with no value. With a sink,
    /// the LSE includes it, so a fully masked row has output 0 and the sink as its LSE.
    pub sinks: Option<&'a [f64]>,
    /// Keys in use per sequence `[batch]`, at most `keys`; later ones are padding and never read.
    pub key_lengths: Option<&'a [usize]>,
    /// Queries in use per sequence `[batch]`, at most `queries`; later rows give 0 and LSE `-inf`.
    pub query_lengths: Option<&'a [usize]>,
}

/// An attention result, or the partial state of a span of keys.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionOutput {
    /// `[batch, query, query_head, value_dim]`; zeros for a fully masked row.
    pub output: Vec<f64>,
    /// Natural logarithm of the softmax denominator, `[batch, query, query_head]`; `-inf` for a fully
    /// masked row.
    pub lse: Vec<f64>,
}

/// Attention over all keys at once.
///
/// # Errors
/// [`ReferenceError`] when a slice does not fit the shape, when `query_heads` is no multiple of
/// `kv_heads`, or when a length exceeds the shape.
pub fn attention(
    shape: &AttentionShape,
    query: &[impl Element],
    key: &[impl Element],
    value: &[impl Element],
    options: &AttentionOptions<'_>,
) -> Result<AttentionOutput, ReferenceError> {
    let problem = Problem::new(shape, query, key, value, options, None)?;
    let mut state = problem.span(0..shape.keys);
    problem.add_sinks(&mut state, 0..);
    Ok(state)
}

/// [`attention`] of some rows only, for problems whose whole twin would take too long. A row is
/// `(batch * queries + query) * query_heads + head`; the result has them in the order given.
///
/// # Errors
/// As [`attention`], and when a row is outside the shape.
pub fn attention_rows(
    shape: &AttentionShape,
    query: &[impl Element],
    key: &[impl Element],
    value: &[impl Element],
    options: &AttentionOptions<'_>,
    rows: &[usize],
) -> Result<AttentionOutput, ReferenceError> {
    let problem = Problem::new(shape, query, key, value, options, None)?;
    let all = shape.batch * shape.queries * shape.query_heads;
    let last = rows.iter().copied().max().unwrap_or(0);
    check_argument(
        rows.is_empty() || last < all,
        "rows",
        "rows of the shape",
        last,
    )?;
    let mut state = problem.rows(rows.iter().copied(), 0..shape.keys);
    problem.add_sinks(&mut state, rows.iter().copied());
    Ok(state)
}

/// Attention computed span by span (`span` keys each, at absolute multiples of `span`) and merged in
/// ascending order: the twin of the split kernel. Sinks are added once, after the merge.
///
/// # Errors
/// As [`attention`], and when `span` is 0.
pub fn split_attention(
    shape: &AttentionShape,
    query: &[impl Element],
    key: &[impl Element],
    value: &[impl Element],
    options: &AttentionOptions<'_>,
    span: usize,
) -> Result<AttentionOutput, ReferenceError> {
    check_argument(span > 0, "span", "at least one key", span)?;
    let problem = Problem::new(shape, query, key, value, options, None)?;
    let mut partials = Vec::new();
    let mut first = 0usize;
    loop {
        let end = first.saturating_add(span).min(shape.keys);
        partials.push(problem.span(first..end));
        if end == shape.keys {
            break;
        }
        first = end;
    }
    let mut state = merge_states(&partials)?;
    problem.add_sinks(&mut state, 0..);
    Ok(state)
}

/// What a naive kernel of one storage type gives: Q, K, V, the scores, the probabilities and the
/// output are each rounded through `storage`, as by a kernel that keeps them in memory, with exact
/// arithmetic in between. The tolerance of a fused kernel is a multiple of this one's error.
///
/// # Errors
/// As [`attention`].
pub fn naive_attention(
    shape: &AttentionShape,
    query: &[impl Element],
    key: &[impl Element],
    value: &[impl Element],
    options: &AttentionOptions<'_>,
    storage: Storage,
) -> Result<AttentionOutput, ReferenceError> {
    let problem = Problem::new(shape, query, key, value, options, Some(storage))?;
    let mut state = problem.span(0..shape.keys);
    problem.add_sinks(&mut state, 0..);
    state.output = storage.round_all(&state.output);
    Ok(state)
}

#[cfg(test)]
mod tests;
