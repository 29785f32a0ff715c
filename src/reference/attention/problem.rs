//! A checked attention problem, and its rows one by one.

use std::ops::Range;

use super::{AttentionOptions, AttentionOutput, AttentionShape, Mask, log_sum_exp};
use crate::reference::storage::Storage;
use crate::reference::{Element, ReferenceError, check_argument, check_length};

/// A checked problem, its tensors widened to f64.
pub(super) struct Problem<'a> {
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
    pub(super) fn new(
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
    pub(super) fn span(&self, span: Range<usize>) -> AttentionOutput {
        let shape = &self.shape;
        // With no query, nothing bounds the batch by the length of a slice.
        let rows = match shape.queries {
            0 => 0,
            queries => shape.batch * queries * shape.query_heads,
        };
        self.rows(0..rows, span)
    }

    /// As [`Self::span`] for some rows, `(batch * queries + query) * query_heads + head`.
    pub(super) fn rows(
        &self,
        rows: impl ExactSizeIterator<Item = usize>,
        span: Range<usize>,
    ) -> AttentionOutput {
        let mut state = AttentionOutput {
            output: Vec::with_capacity(rows.len() * self.shape.value_dim),
            lse: Vec::with_capacity(rows.len()),
        };
        for row in rows {
            let (batch, query, head) = self.place(row);
            let (output, lse) = self.row(batch, query, head, span.clone());
            state.output.extend(output);
            state.lse.push(lse);
        }
        state
    }

    /// Batch, query and head of a row.
    fn place(&self, row: usize) -> (usize, usize, usize) {
        let shape = &self.shape;
        let token = row / shape.query_heads;
        (
            token / shape.queries,
            token % shape.queries,
            row % shape.query_heads,
        )
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
            score -= slopes[head] * self.distance(batch, query, key) as f64;
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
        let seen = match self.options.mask {
            Mask::None => true,
            Mask::Causal => key as i128 <= self.position(batch, query),
            Mask::Visible(visible) | Mask::Tree { visible, .. } => visible(batch, query, key),
        };
        // A tree has no distance between tokens that do not see each other.
        seen && (self.options.window)
            .is_none_or(|window| self.distance(batch, query, key) < window as u128)
    }

    /// Tokens between a query and a key.
    fn distance(&self, batch: usize, query: usize, key: usize) -> u128 {
        match self.options.mask {
            Mask::Tree { distance, .. } => distance(batch, query, key) as u128,
            _ => self.position(batch, query).abs_diff(key as i128),
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

    /// Adds each head's sink to the denominator: once, however many spans were merged. `rows` are
    /// those of the state.
    pub(super) fn add_sinks(&self, state: &mut AttentionOutput, rows: impl Iterator<Item = usize>) {
        let Some(sinks) = self.options.sinks else {
            return;
        };
        for (at, row) in (0..state.lse.len()).zip(rows) {
            let (batch, query, head) = self.place(row);
            if query >= self.queries_of(batch) {
                continue;
            }
            let before = state.lse[at];
            let after = log_sum_exp(&[before, sinks[head]]);
            state.lse[at] = after;
            if before == f64::NEG_INFINITY {
                continue;
            }
            let start = at * self.shape.value_dim;
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
