//! A Llama-family decoder in f64 with its own key-value cache: the oracle of the GPU decoder.
//!
//! A layer is `x += W_o attention(rope(W_q n), rope(W_k n), W_v n)` with `n = rms_norm(x)`, then
//! `x += W_down swiglu(W_gate n, W_up n)` with `n = rms_norm(x)` (Touvron et al. 2023). Weights are
//! dequantised f32; every step between them is f64.

use super::attention::{AttentionOptions, AttentionShape, Mask, attention};
use super::cache::{CacheShape, commit};
use super::embedding::embedding;
use super::linear::{linear, linear_swiglu};
use super::norm::rms_norm;
use super::rope::{Rope, rope, rope_halves};
use super::{ReferenceError, check_argument, check_length};
use crate::tree::DraftTree;

/// The plain numbers of a Llama-family decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// Decoder layers.
    pub layers: usize,
    /// Elements of the residual stream.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Elements of a query, a key and a value.
    pub head_dim: usize,
    /// Inner width of the feed-forward layer.
    pub ff: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Base of the rotary frequencies.
    pub rope_base: f64,
    /// Leading elements of a head that are rotated.
    pub rope_dim: usize,
    /// Divisors of the rotary frequencies `[rope_dim / 2]`; `None` is all ones.
    pub rope_divisors: Option<Vec<f64>>,
    /// Epsilon of the RMS norms.
    pub eps: f64,
    /// What sets its family apart from Llama.
    pub family: Family,
}

/// What sets a family of decoders apart from Llama; the default is Llama.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Family {
    /// Rotation takes elements `i` and `i + rope_dim / 2` together (Qwen) instead of neighbours.
    pub rope_halves: bool,
    /// Every layer whose number, from 1, is a multiple of this has no rotation (SmolLM3); 0: none.
    pub no_rope_interval: usize,
    /// Only the keys less than this many positions away are seen (Mistral).
    pub window: Option<usize>,
    /// Positions are divided by this (linear scaling) where it is given.
    pub rope_factor: Option<f64>,
    /// What was rotated is multiplied by this (YaRN, LongRoPE) where it is given.
    pub rope_magnitude: Option<f64>,
}

/// The weights of one layer, dequantised; a matrix is `[out, in]`.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerWeights {
    /// `[width]`
    pub attention_norm: Vec<f32>,
    /// `[heads * head_dim, width]`
    pub query: Vec<f32>,
    /// `[kv_heads * head_dim, width]`
    pub key: Vec<f32>,
    /// `[kv_heads * head_dim, width]`
    pub value: Vec<f32>,
    /// `[width, heads * head_dim]`
    pub attention_output: Vec<f32>,
    /// Biases of query, key and value, `[heads * head_dim]` and twice `[kv_heads * head_dim]` (Qwen2).
    pub biases: Option<[Vec<f32>; 3]>,
    /// Weights of the norms of each query and key head, both `[head_dim]` (Qwen3).
    pub head_norms: Option<[Vec<f32>; 2]>,
    /// `[width]`
    pub ff_norm: Vec<f32>,
    /// `[ff, width]`
    pub gate: Vec<f32>,
    /// `[ff, width]`
    pub up: Vec<f32>,
    /// `[width, ff]`
    pub down: Vec<f32>,
}

/// The weights of a decoder, dequantised.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderWeights {
    /// `[vocab, width]`
    pub embedding: Vec<f32>,
    /// One a layer.
    pub layers: Vec<LayerWeights>,
    /// `[width]`
    pub output_norm: Vec<f32>,
    /// `[vocab, width]`; `None` when the embedding serves as the output too (tied).
    pub output: Option<Vec<f32>>,
}

/// A decoder and what it has read so far.
#[derive(Debug, Clone)]
pub struct Decoder {
    config: DecoderConfig,
    weights: DecoderWeights,
    /// Per layer `[position, kv_head, head_dim]`, rotated.
    keys: Vec<Vec<f64>>,
    /// Per layer `[position, kv_head, head_dim]`.
    values: Vec<Vec<f64>>,
    /// Positions in the cache, drafted ones included.
    length: usize,
    /// Positions that a commit keeps whatever it accepts.
    committed: usize,
}

impl Decoder {
    /// A decoder with an empty cache.
    ///
    /// # Errors
    /// [`ReferenceError`] when a size is 0 or odd where it may not be, or a weight does not fit.
    pub fn new(config: DecoderConfig, weights: DecoderWeights) -> Result<Self, ReferenceError> {
        check_config(&config)?;
        check_weights(&config, &weights)?;
        Ok(Decoder {
            keys: vec![Vec::new(); config.layers],
            values: vec![Vec::new(); config.layers],
            length: 0,
            committed: 0,
            config,
            weights,
        })
    }

    /// The decoder's numbers.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Tokens in the cache.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing was read yet.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Reads `tokens` after what was read or committed before (drafted nodes that no commit kept are
    /// forgotten) and returns their logits `[token, vocab]`.
    ///
    /// # Errors
    /// [`ReferenceError::Argument`] for a token outside the vocabulary; the cache is then unchanged.
    pub fn forward(&mut self, tokens: &[u32]) -> Result<Vec<f64>, ReferenceError> {
        self.truncate(self.committed);
        let first = self.length;
        let positions: Vec<usize> = (first..first + tokens.len()).collect();
        let logits = self.pass(tokens, &positions, &Mask::Causal)?;
        self.committed = self.length;
        Ok(logits)
    }

    /// As [`forward`](Self::forward), but returns the features `[token, width]`: the residual stream after the
    /// last layer, before the output norm.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward).
    pub fn features(&mut self, tokens: &[u32]) -> Result<Vec<f64>, ReferenceError> {
        self.truncate(self.committed);
        let first = self.length;
        let positions: Vec<usize> = (first..first + tokens.len()).collect();
        let x = embedding(&self.weights.embedding, tokens, self.config.width)?;
        let x = self.layers(x, &positions, &Mask::Causal)?;
        self.committed = self.length;
        Ok(x)
    }

    /// Reads the nodes of `tree`, each of which sees what was read before and its own ancestors, and
    /// returns their logits `[node, vocab]`. [`commit`](Self::commit) then keeps the accepted path.
    ///
    /// # Errors
    /// [`ReferenceError::Argument`] for a token outside the vocabulary; the cache is then unchanged.
    pub fn forward_tree(&mut self, tree: &DraftTree) -> Result<Vec<f64>, ReferenceError> {
        self.truncate(self.committed);
        let first = self.length;
        let positions: Vec<usize> = tree
            .depths()
            .iter()
            .map(|&depth| first + depth as usize)
            .collect();
        let visible = |_batch: usize, node: usize, key: usize| match key.checked_sub(first) {
            None => true,
            Some(ancestor) => tree.sees(node, ancestor),
        };
        let distance = |_batch: usize, node: usize, key: usize| {
            let place = |ancestor: usize| tree.depths()[ancestor] as usize;
            match key.checked_sub(first) {
                None => first + place(node) - key,
                Some(ancestor) => place(node).abs_diff(place(ancestor)),
            }
        };
        let mask = Mask::Tree {
            visible: &visible,
            distance: &distance,
        };
        self.pass(tree.tokens(), &positions, &mask)
    }

    /// Keeps the nodes of `path` (from the root down) of the tree read last and drops the others.
    ///
    /// # Errors
    /// [`ReferenceError::Argument`] when `path` is no ascending path inside that tree.
    pub fn commit(&mut self, path: &[u32]) -> Result<(), ReferenceError> {
        let shape = CacheShape {
            outer: 1,
            slots: self.length,
            inner: self.config.kv_heads * self.config.head_dim,
        };
        for cache in self.keys.iter_mut().chain(&mut self.values) {
            *cache = commit(cache, &shape, self.committed, path)?;
        }
        self.truncate(self.committed + path.len());
        Ok(())
    }

    /// Forgets all but the first `length` tokens; does nothing when there are no more.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
        self.committed = self.length;
        let elements = self.length * self.config.kv_heads * self.config.head_dim;
        for cache in self.keys.iter_mut().chain(&mut self.values) {
            cache.truncate(elements);
        }
    }

    /// One pass over `tokens` at `positions`, appended to the cache.
    fn pass(
        &mut self,
        tokens: &[u32],
        positions: &[usize],
        mask: &Mask<'_>,
    ) -> Result<Vec<f64>, ReferenceError> {
        let x = embedding(&self.weights.embedding, tokens, self.config.width)?;
        let x = self.layers(x, positions, mask)?;
        self.head(&x)
    }

    /// The layers over rows `x` of the residual stream `[row, width]` at `positions`, appended to the cache.
    pub(super) fn layers(
        &mut self,
        mut x: Vec<f64>,
        positions: &[usize],
        mask: &Mask<'_>,
    ) -> Result<Vec<f64>, ReferenceError> {
        let config = &self.config;
        let rows = positions.len();
        let rotary_positions = rotary_positions(positions)?;
        let turn = Rope {
            frequency_divisors: config.rope_divisors.as_deref(),
            magnitude: config.family.rope_magnitude.unwrap_or(1.0),
            position_scale: 1.0 / config.family.rope_factor.unwrap_or(1.0),
            ..Rope::new(config.rope_dim, config.rope_base)
        };
        let query_width = config.heads * config.head_dim;
        let kv_width = config.kv_heads * config.head_dim;
        let shape = AttentionShape {
            batch: 1,
            query_heads: config.heads,
            kv_heads: config.kv_heads,
            queries: rows,
            keys: self.length + rows,
            head_dim: config.head_dim,
            value_dim: config.head_dim,
        };
        let options = AttentionOptions {
            mask: *mask,
            window: config.family.window,
            ..AttentionOptions::default()
        };

        let caches = self.keys.iter_mut().zip(&mut self.values);
        let layers = self.weights.layers.iter().zip(caches);
        for (number, (layer, (keys, values))) in (1..).zip(layers) {
            let normed = rms_norm(&x, &layer.attention_norm, config.eps)?;
            let project = |i: usize, weight: &[f32], outputs: usize| {
                let biases = layer.biases.as_ref();
                let bias = biases.map(|biases| biases[i].iter().map(|&b| f64::from(b)));
                let rows_of_it = bias.map(|bias| bias.collect::<Vec<_>>().repeat(rows));
                let bias = rows_of_it.as_deref();
                linear(&normed, weight, bias, rows, config.width, outputs)
            };
            let interval = config.family.no_rope_interval;
            let turned = interval == 0 || number % interval != 0;
            let rotate = |i: usize, x: Vec<f64>, heads: usize| {
                let x = match &layer.head_norms {
                    Some(weights) => rms_norm(&x, &weights[i], config.eps)?,
                    None => x,
                };
                match (turned, config.family.rope_halves) {
                    (false, _) => Ok(x),
                    (_, false) => rope(&x, &rotary_positions, heads, config.head_dim, &turn),
                    (_, true) => rope_halves(&x, &rotary_positions, heads, config.head_dim, &turn),
                }
            };
            let query = rotate(0, project(0, &layer.query, query_width)?, config.heads)?;
            let key = project(1, &layer.key, kv_width)?;
            keys.extend(rotate(1, key, config.kv_heads)?);
            values.extend(project(2, &layer.value, kv_width)?);
            let mixed = attention(&shape, &query, keys, values, &options)?.output;
            let output = &layer.attention_output;
            x = linear(&mixed, output, Some(&x), rows, query_width, config.width)?;

            let normed = rms_norm(&x, &layer.ff_norm, config.eps)?;
            let (gate, up) = (&layer.gate, &layer.up);
            let inner = linear_swiglu(&normed, gate, up, rows, config.width, config.ff)?;
            x = linear(&inner, &layer.down, Some(&x), rows, config.ff, config.width)?;
        }
        self.length += rows;
        Ok(x)
    }

    /// Logits `[row, vocab]` of features `[row, width]`, through the output norm.
    pub(super) fn head(&self, features: &[f64]) -> Result<Vec<f64>, ReferenceError> {
        let config = &self.config;
        let normed = rms_norm(features, &self.weights.output_norm, config.eps)?;
        let output = self
            .weights
            .output
            .as_ref()
            .unwrap_or(&self.weights.embedding);
        let rows = features.len() / config.width;
        linear(&normed, output, None, rows, config.width, config.vocab)
    }
}

fn rotary_positions(positions: &[usize]) -> Result<Vec<u32>, ReferenceError> {
    let last = positions.iter().copied().max().unwrap_or(0);
    check_argument(
        u32::try_from(last).is_ok(),
        "tokens",
        "positions that fit u32",
        last,
    )?;
    Ok(positions.iter().map(|&position| position as u32).collect())
}

fn check_config(config: &DecoderConfig) -> Result<(), ReferenceError> {
    for (name, size) in [
        ("layers", config.layers),
        ("width", config.width),
        ("kv_heads", config.kv_heads),
        ("head_dim", config.head_dim),
        ("ff", config.ff),
        ("vocab", config.vocab),
    ] {
        check_argument(size > 0, name, "at least 1", size)?;
    }
    check_argument(
        config.heads > 0 && config.heads.is_multiple_of(config.kv_heads),
        "heads",
        "a multiple of kv_heads",
        format!("{} with {} KV heads", config.heads, config.kv_heads),
    )?;
    check_argument(
        config.rope_dim.is_multiple_of(2) && config.rope_dim <= config.head_dim,
        "rope_dim",
        "an even number, at most head_dim",
        format!("{} with head_dim {}", config.rope_dim, config.head_dim),
    )?;
    if let Some(divisors) = &config.rope_divisors {
        check_length(
            "rope_divisors",
            "[rope_dim / 2]",
            divisors,
            &[config.rope_dim / 2],
        )?;
    }
    Ok(())
}

fn check_weights(config: &DecoderConfig, weights: &DecoderWeights) -> Result<(), ReferenceError> {
    let &DecoderConfig {
        layers,
        width,
        heads,
        kv_heads,
        head_dim,
        ff,
        vocab,
        ..
    } = config;
    check_length("layers", "[layer]", &weights.layers, &[layers])?;
    check_length(
        "embedding",
        "[vocab, width]",
        &weights.embedding,
        &[vocab, width],
    )?;
    check_length("output_norm", "[width]", &weights.output_norm, &[width])?;
    if let Some(output) = &weights.output {
        check_length("output", "[vocab, width]", output, &[vocab, width])?;
    }
    let key_axes = "[kv_heads, head_dim, width]";
    for layer in &weights.layers {
        check_length("attention_norm", "[width]", &layer.attention_norm, &[width])?;
        let query_axes = "[heads, head_dim, width]";
        check_length("query", query_axes, &layer.query, &[heads, head_dim, width])?;
        check_length("key", key_axes, &layer.key, &[kv_heads, head_dim, width])?;
        check_length(
            "value",
            key_axes,
            &layer.value,
            &[kv_heads, head_dim, width],
        )?;
        let output_axes = "[width, heads, head_dim]";
        let output_sizes = [width, heads, head_dim];
        check_length(
            "attention_output",
            output_axes,
            &layer.attention_output,
            &output_sizes,
        )?;
        if let Some([query, key, value]) = &layer.biases {
            for (bias, heads) in [(query, heads), (key, kv_heads), (value, kv_heads)] {
                check_length("biases", "[heads, head_dim]", bias, &[heads, head_dim])?;
            }
        }
        for norm in layer.head_norms.iter().flatten() {
            check_length("head_norms", "[head_dim]", norm, &[head_dim])?;
        }
        check_length("ff_norm", "[width]", &layer.ff_norm, &[width])?;
        check_length("gate", "[ff, width]", &layer.gate, &[ff, width])?;
        check_length("up", "[ff, width]", &layer.up, &[ff, width])?;
        check_length("down", "[width, ff]", &layer.down, &[width, ff])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
