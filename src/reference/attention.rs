//! Scaled dot-product attention, whole and split over keys, with every mask and extra.
//!
//! For each query row: `s_j = softcap(scale q·k_j) + alibi_j + bias_j` over the visible keys,
//! `LSE = ln(sum_j exp s_j [+ exp sink])` and `O = sum_j exp(s_j - LSE) v_j` (Vaswani et al. 2017,
//! section 3.2.1). Splitting over keys and merging by LSE is the online softmax of Milakov and
//! Gimelshein 2018, as in FlashAttention (Dao et al. 2022, section 3.1).

use std::ops::Range;

use super::storage::Storage;
use super::{Element, ReferenceError, check_argument, check_length};

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
    /// The keys for which `visible(batch, query, key)` holds: a draft tree, a prefix, anything.
    Visible(&'a dyn Fn(usize, usize, usize) -> bool),
}

impl std::fmt::Debug for Mask<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Mask::None => "None",
            Mask::Causal => "Causal",
            Mask::Visible(_) => "Visible(..)",
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
    problem.add_sinks(&mut state);
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
    problem.add_sinks(&mut state);
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
    problem.add_sinks(&mut state);
    state.output = storage.round_all(&state.output);
    Ok(state)
}

/// Merges partial states over disjoint sets of keys into the state over their union.
///
/// With `LSE = ln(sum_i exp LSE_i)`, `O = sum_i exp(LSE_i - LSE) O_i`. A state whose LSE is `-inf`
/// saw no key and is neutral; the merge of none is empty.
///
/// # Errors
/// [`ReferenceError::Length`] when the states differ in length, or an output is no whole number of
/// values a row.
pub fn merge_states(states: &[AttentionOutput]) -> Result<AttentionOutput, ReferenceError> {
    let rows = states.first().map_or(0, |state| state.lse.len());
    let columns = states
        .first()
        .map_or(0, |state| state.output.len().checked_div(rows).unwrap_or(0));
    for state in states {
        check_length("lse", "[row]", &state.lse, &[rows])?;
        check_length(
            "output",
            "[row, value_dim]",
            &state.output,
            &[rows, columns],
        )?;
    }
    let mut merged = AttentionOutput {
        output: vec![0.0; rows * columns],
        lse: vec![f64::NEG_INFINITY; rows],
    };
    for row in 0..rows {
        let row_lse: Vec<f64> = states.iter().map(|state| state.lse[row]).collect();
        let lse = log_sum_exp(&row_lse);
        merged.lse[row] = lse;
        for (state, partial) in states.iter().zip(row_lse) {
            if partial == f64::NEG_INFINITY {
                continue;
            }
            let weight = (partial - lse).exp();
            for column in 0..columns {
                let element = row * columns + column;
                merged.output[element] += weight * state.output[element];
            }
        }
    }
    Ok(merged)
}

/// `ln(sum exp x)`, shifted by the maximum; `-inf` when there is no term above `-inf`.
pub fn log_sum_exp(terms: &[f64]) -> f64 {
    let maximum = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if maximum == f64::NEG_INFINITY && !terms.iter().any(|term| term.is_nan()) {
        return f64::NEG_INFINITY;
    }
    maximum
        + terms
            .iter()
            .map(|term| (term - maximum).exp())
            .sum::<f64>()
            .ln()
}

/// A checked problem, its tensors widened to f64.
struct Problem<'a> {
    shape: AttentionShape,
    query: Vec<f64>,
    key: Vec<f64>,
    value: Vec<f64>,
    options: AttentionOptions<'a>,
    scale: f64,
    /// Round intermediate results as a kernel that stores them would.
    storage: Option<Storage>,
}

impl<'a> Problem<'a> {
    fn new(
        shape: &AttentionShape,
        query: &[impl Element],
        key: &[impl Element],
        value: &[impl Element],
        options: &AttentionOptions<'a>,
        storage: Option<Storage>,
    ) -> Result<Self, ReferenceError> {
        let &AttentionShape {
            batch,
            query_heads,
            kv_heads,
            queries,
            keys,
            head_dim,
            value_dim,
        } = shape;
        check_argument(
            kv_heads > 0 && query_heads > 0 && query_heads.is_multiple_of(kv_heads),
            "query_heads",
            "a multiple of kv_heads, and both at least 1",
            format!("{query_heads} query heads with {kv_heads} KV heads"),
        )?;
        check_argument(
            head_dim > 0 && value_dim > 0,
            "head_dim",
            "head_dim and value_dim of at least 1",
            format!("{head_dim} and {value_dim}"),
        )?;
        check_length(
            "query",
            "[batch, query, query_head, head_dim]",
            query,
            &[batch, queries, query_heads, head_dim],
        )?;
        check_length(
            "key",
            "[batch, key, kv_head, head_dim]",
            key,
            &[batch, keys, kv_heads, head_dim],
        )?;
        check_length(
            "value",
            "[batch, key, kv_head, value_dim]",
            value,
            &[batch, keys, kv_heads, value_dim],
        )?;
        if let Some(slopes) = options.alibi_slopes {
            check_length("alibi_slopes", "[query_head]", slopes, &[query_heads])?;
        }
        if let Some(bias) = options.bias {
            check_length(
                "bias",
                "[batch, query_head, query, key]",
                bias,
                &[batch, query_heads, queries, keys],
            )?;
        }
        if let Some(sinks) = options.sinks {
            check_length("sinks", "[query_head]", sinks, &[query_heads])?;
        }
        check_lengths("key_lengths", options.key_lengths, batch, keys)?;
        check_lengths("query_lengths", options.query_lengths, batch, queries)?;
        let widen = |storage: Option<Storage>, value: f64| match storage {
            Some(storage) => storage.round(value),
            None => value,
        };
        Ok(Problem {
            shape: *shape,
            query: query.iter().map(|&x| widen(storage, x.into())).collect(),
            key: key.iter().map(|&x| widen(storage, x.into())).collect(),
            value: value.iter().map(|&x| widen(storage, x.into())).collect(),
            options: *options,
            scale: options.scale.unwrap_or(1.0 / (head_dim as f64).sqrt()),
            storage,
        })
    }

    /// The state of all rows over the keys of `span`, without sinks.
    fn span(&self, span: Range<usize>) -> AttentionOutput {
        let shape = &self.shape;
        let rows = shape.batch * shape.queries * shape.query_heads;
        let mut state = AttentionOutput {
            output: Vec::with_capacity(rows * shape.value_dim),
            lse: Vec::with_capacity(rows),
        };
        for batch in 0..shape.batch {
            for query in 0..shape.queries {
                for head in 0..shape.query_heads {
                    let (output, lse) = self.row(batch, query, head, span.clone());
                    state.output.extend(output);
                    state.lse.push(lse);
                }
            }
        }
        state
    }

    fn row(&self, batch: usize, query: usize, head: usize, span: Range<usize>) -> (Vec<f64>, f64) {
        let shape = &self.shape;
        let scores: Vec<(usize, f64)> = span
            .filter(|&key| self.visible(batch, query, key))
            .map(|key| (key, self.round(self.score(batch, query, head, key))))
            .collect();
        let maximum = scores
            .iter()
            .fold(f64::NEG_INFINITY, |maximum, &(_, score)| maximum.max(score));
        let sum: f64 = scores
            .iter()
            .filter(|&&(_, score)| score != f64::NEG_INFINITY)
            .map(|&(_, score)| (score - maximum).exp())
            .sum();
        let mut output = vec![0.0; shape.value_dim];
        for (key, score) in scores {
            // A bias may hide a key with -inf; then its value, which may be NaN padding, is not read.
            if score == f64::NEG_INFINITY {
                continue;
            }
            let probability = self.round((score - maximum).exp() / sum);
            let kv_head = head / (shape.query_heads / shape.kv_heads);
            let start = ((batch * shape.keys + key) * shape.kv_heads + kv_head) * shape.value_dim;
            for (column, output) in output.iter_mut().enumerate() {
                *output += probability * self.value[start + column];
            }
        }
        // No visible key: the sum is empty, and -inf + ln 0 is the LSE of nothing.
        (output, maximum + sum.ln())
    }

    fn score(&self, batch: usize, query: usize, head: usize, key: usize) -> f64 {
        let shape = &self.shape;
        let kv_head = head / (shape.query_heads / shape.kv_heads);
        let q = ((batch * shape.queries + query) * shape.query_heads + head) * shape.head_dim;
        let k = ((batch * shape.keys + key) * shape.kv_heads + kv_head) * shape.head_dim;
        let dot: f64 = (0..shape.head_dim)
            .map(|i| self.query[q + i] * self.key[k + i])
            .sum();
        let mut score = self.scale * dot;
        if let Some(cap) = self.options.softcap {
            score = cap * (score / cap).tanh();
        }
        if let Some(slopes) = self.options.alibi_slopes {
            score -= slopes[head] * self.position(batch, query).abs_diff(key as i128) as f64;
        }
        if let Some(bias) = self.options.bias {
            let row = (batch * shape.query_heads + head) * shape.queries + query;
            score += bias[row * shape.keys + key];
        }
        score
    }

    fn visible(&self, batch: usize, query: usize, key: usize) -> bool {
        if query >= self.queries_of(batch) || key >= self.keys_of(batch) {
            return false;
        }
        let position = self.position(batch, query);
        let in_window = self
            .options
            .window
            .is_none_or(|window| position.abs_diff(key as i128) < window as u128);
        in_window
            && match self.options.mask {
                Mask::None => true,
                Mask::Causal => key as i128 <= position,
                Mask::Visible(visible) => visible(batch, query, key),
            }
    }

    /// The key index at which a query stands; negative when there are more queries than keys.
    fn position(&self, batch: usize, query: usize) -> i128 {
        query as i128 + self.keys_of(batch) as i128 - self.queries_of(batch) as i128
    }

    fn keys_of(&self, batch: usize) -> usize {
        self.options
            .key_lengths
            .map_or(self.shape.keys, |lengths| lengths[batch])
    }

    fn queries_of(&self, batch: usize) -> usize {
        self.options
            .query_lengths
            .map_or(self.shape.queries, |lengths| lengths[batch])
    }

    /// Adds each head's sink to the denominator: once, however many spans were merged.
    fn add_sinks(&self, state: &mut AttentionOutput) {
        let Some(sinks) = self.options.sinks else {
            return;
        };
        for row in 0..state.lse.len() {
            let query = row / self.shape.query_heads % self.shape.queries;
            let batch = row / self.shape.query_heads / self.shape.queries;
            if query >= self.queries_of(batch) {
                continue;
            }
            let before = state.lse[row];
            let after = log_sum_exp(&[before, sinks[row % self.shape.query_heads]]);
            state.lse[row] = after;
            if before == f64::NEG_INFINITY {
                continue;
            }
            let start = row * self.shape.value_dim;
            for output in &mut state.output[start..start + self.shape.value_dim] {
                *output *= (before - after).exp();
            }
        }
    }

    fn round(&self, value: f64) -> f64 {
        match self.storage {
            Some(storage) => storage.round(value),
            None => value,
        }
    }
}

fn check_lengths(
    argument: &'static str,
    lengths: Option<&[usize]>,
    batch: usize,
    limit: usize,
) -> Result<(), ReferenceError> {
    let Some(lengths) = lengths else {
        return Ok(());
    };
    check_length(argument, "[batch]", lengths, &[batch])?;
    let longest = lengths.iter().copied().max().unwrap_or(0);
    check_argument(
        longest <= limit,
        argument,
        "lengths that the shape holds",
        format!("{longest} where the shape holds {limit}"),
    )
}

#[cfg(test)]
#[path = "attention_tests.rs"]
mod tests;
