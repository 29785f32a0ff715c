//! The shape of a decoder of the Llama family and its kin, read from a file's metadata and checked against its
//! tensors before anything is allocated.

use super::{Architecture, Gguf, GgufError, RopeScaling, hugging_face::ROPE_PAIRS};
use crate::cache::RopePairs;

/// Why a file that is valid GGUF can't be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The metadata lacks a value or has one of the wrong type.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// Another family of models.
    #[error(
        "the file's architecture is {found:?}; supported are \"llama\" (Llama, Mistral, SmolLM and their \
         kin), \"qwen2\", \"qwen3\" and \"smollm3\""
    )]
    Architecture {
        /// `general.architecture`.
        found: String,
    },
    /// One part of a model in several files.
    #[error(
        "the file is one of {parts} parts of a model (`split.count`); needed all: open the first with \
         `gguf::open`, or join them with llama.cpp's `llama-gguf-split --merge`"
    )]
    Split {
        /// Files of the model.
        parts: u32,
    },
    /// A value that no model has.
    #[error("`{key}` is {given}; {needed}")]
    Value {
        /// Metadata key.
        key: String,
        /// Its value.
        given: String,
        /// What is needed.
        needed: String,
    },
    /// Something of the family that this version doesn't compute.
    #[error("the model uses {feature}, which this version does not compute; use another model")]
    Unsupported {
        /// What it is.
        feature: String,
    },
    /// A tensor is not where or how the metadata says.
    #[error(
        "tensor `{tensor}` has shape {given:?}; the metadata needs {needed:?} (in ggml's order)"
    )]
    Shape {
        /// The tensor.
        tensor: String,
        /// Shape needed.
        needed: Vec<u64>,
        /// Shape in the file.
        given: Vec<u64>,
    },
}

/// Sizes and constants of a decoder. Names are those of the metadata keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparameters {
    /// The family.
    pub architecture: Architecture,
    /// Decoder layers.
    pub block_count: u32,
    /// Width of the residual stream.
    pub embedding_length: u32,
    /// Width of the feed-forward layer.
    pub feed_forward_length: u32,
    /// Query heads.
    pub head_count: u32,
    /// Key and value heads.
    pub head_count_kv: u32,
    /// Elements of a query, key or value head.
    pub key_length: u32,
    /// Which elements of a head rotate together: the family's, unless the file says otherwise.
    pub rope_pairs: RopePairs,
    /// Leading elements of a head that RoPE rotates.
    pub rope_dimension_count: u32,
    /// Base of RoPE's frequencies.
    pub rope_freq_base: f32,
    /// How RoPE's frequencies are scaled.
    pub rope_scaling: RopeScaling,
    /// Epsilon of the RMSNorms.
    pub rms_epsilon: f32,
    /// Tokens the model was made for.
    pub context_length: u32,
    /// Token ids.
    pub vocabulary: u32,
    /// Keys this many positions away and farther are not seen (Mistral).
    pub sliding_window: Option<u32>,
    /// Query, key and value have biases (Qwen2).
    pub biases: bool,
    /// Query and key heads are normalised (Qwen3).
    pub head_norms: bool,
    /// RoPE's frequencies are divided by the numbers in `rope_freqs.weight` (Llama 3.1).
    pub rope_divisors: bool,
}

impl Hyperparameters {
    /// Reads and checks the metadata.
    ///
    /// # Errors
    /// [`ModelError`] naming the key, what is needed and what the file says.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, ModelError> {
        let name = gguf.str("general.architecture")?;
        let Some(architecture) = Architecture::from_name(name) else {
            return Err(ModelError::Architecture {
                found: name.chars().take(64).collect(),
            });
        };
        if gguf.get("split.count").is_some() {
            let parts = gguf.u32("split.count")?;
            if parts > 1 {
                return Err(ModelError::Split { parts });
            }
        }
        let size = |name: &str, most: u32| -> Result<u32, ModelError> {
            let key = format!("{architecture}.{name}");
            let value = gguf.u32(&key)?;
            in_range(&key, value, most)
        };
        let optional = |name: &str, default: u32, most: u32| -> Result<u32, ModelError> {
            match gguf.get(&format!("{architecture}.{name}")) {
                Some(_) => size(name, most),
                None => Ok(default),
            }
        };
        let block_count = size("block_count", 1 << 12)?;
        let embedding_length = size("embedding_length", 1 << 20)?;
        let feed_forward_length = size("feed_forward_length", 1 << 22)?;
        let head_count = size("attention.head_count", 1 << 14)?;
        let head_count_kv = optional("attention.head_count_kv", head_count, 1 << 14)?;
        let per_head = embedding_length / head_count;
        let key_length = optional("attention.key_length", per_head, 256)?;
        let value_length = optional("attention.value_length", key_length, 256)?;
        let rope_dimension_count = optional("rope.dimension_count", key_length, 256)?;
        let tokens = gguf.tensor("token_embd.weight")?;
        let rows = tokens.shape.get(1).copied().unwrap_or(0);
        let vocabulary = u32::try_from(rows).unwrap_or(u32::MAX);
        in_range("rows of token_embd.weight", vocabulary, 1 << 24)?;
        let fail = |key: &str, given: u32, needed: &str| ModelError::Value {
            key: format!("{architecture}.{key}"),
            given: given.to_string(),
            needed: needed.to_owned(),
        };
        if !head_count.is_multiple_of(head_count_kv) {
            let needed = format!("it must divide the {head_count} query heads");
            return Err(fail("attention.head_count_kv", head_count_kv, &needed));
        }
        if !embedding_length.is_multiple_of(4) {
            let needed = "kernels need a multiple of 4";
            return Err(fail("embedding_length", embedding_length, needed));
        }
        if key_length == 0 || !key_length.is_multiple_of(4) || key_length > 256 {
            let needed = "a head must have a multiple of 4 elements, at most 256";
            return Err(fail("attention.key_length", key_length, needed));
        }
        if value_length != key_length {
            return Err(ModelError::Unsupported {
                feature: format!("value heads of {value_length} beside key heads of {key_length}"),
            });
        }
        if !rope_dimension_count.is_multiple_of(2) || rope_dimension_count > key_length {
            let needed = format!("it must be even and at most the head size {key_length}");
            return Err(fail("rope.dimension_count", rope_dimension_count, &needed));
        }
        let sliding_window = match gguf.get(&format!("{architecture}.attention.sliding_window")) {
            // Converters write 0 for a model without one.
            Some(_) => match gguf.u32(&format!("{architecture}.attention.sliding_window"))? {
                0 => None,
                _ => Some(size("attention.sliding_window", 1 << 30)?),
            },
            None => None,
        };
        let key = |name: &str| format!("{architecture}.{name}");
        let h = Self {
            architecture,
            block_count,
            embedding_length,
            feed_forward_length,
            head_count,
            head_count_kv,
            key_length,
            rope_pairs: rope_pairs(gguf, architecture)?,
            rope_dimension_count,
            rope_freq_base: positive(gguf, &key("rope.freq_base"), Some(10_000.0))?,
            rope_scaling: RopeScaling::from_gguf(gguf, architecture.name())?,
            rms_epsilon: positive(gguf, &key("attention.layer_norm_rms_epsilon"), None)?,
            context_length: size("context_length", 1 << 30)?,
            vocabulary,
            sliding_window,
            biases: gguf.find_tensor("blk.0.attn_q.bias").is_some(),
            head_norms: architecture == Architecture::Qwen3,
            rope_divisors: gguf.find_tensor("rope_freqs.weight").is_some(),
        };
        Ok(h)
    }

    /// The tensor whose numbers divide RoPE's frequencies in texts of up to `context` tokens, where there is one.
    pub(crate) fn divisor_tensor(&self, context: u32) -> Option<&'static str> {
        let own = self.rope_divisors.then_some("rope_freqs.weight");
        self.rope_scaling.divisor_tensor(context).or(own)
    }

    /// Checks that every tensor of the decoder is there with its shape, and that there is none
    /// that would change the result if it were left out.
    ///
    /// # Errors
    /// [`ModelError::Gguf`] for a missing tensor, [`ModelError::Shape`],
    /// [`ModelError::Unsupported`].
    pub fn check_tensors(&self, gguf: &Gguf) -> Result<(), ModelError> {
        let [width, ff, vocabulary] = [
            self.embedding_length,
            self.feed_forward_length,
            self.vocabulary,
        ]
        .map(u64::from);
        let query = u64::from(self.head_count) * u64::from(self.key_length);
        let kv = u64::from(self.head_count_kv) * u64::from(self.key_length);
        let check = |tensor: &str, needed: &[u64]| -> Result<(), ModelError> {
            let given = &gguf.tensor(tensor)?.shape;
            // Trailing ones say nothing.
            let significant = given
                .iter()
                .rposition(|n| *n != 1)
                .map_or(0, |last| last + 1);
            let wanted = needed
                .iter()
                .rposition(|n| *n != 1)
                .map_or(0, |last| last + 1);
            if given[..significant] == needed[..wanted] {
                return Ok(());
            }
            Err(ModelError::Shape {
                tensor: tensor.to_owned(),
                needed: needed.to_vec(),
                given: given.clone(),
            })
        };
        check("token_embd.weight", &[width, vocabulary])?;
        check("output_norm.weight", &[width])?;
        if gguf.find_tensor("output.weight").is_some() {
            check("output.weight", &[width, vocabulary])?;
        }
        for i in 0..self.block_count {
            for (name, shape) in [
                ("attn_norm", &[width][..]),
                ("attn_q", &[width, query]),
                ("attn_k", &[width, kv]),
                ("attn_v", &[width, kv]),
                ("attn_output", &[query, width]),
                ("ffn_norm", &[width]),
                ("ffn_gate", &[width, ff]),
                ("ffn_up", &[width, ff]),
                ("ffn_down", &[ff, width]),
            ] {
                check(&format!("blk.{i}.{name}.weight"), shape)?;
            }
            if self.biases {
                for (name, rows) in [("attn_q", query), ("attn_k", kv), ("attn_v", kv)] {
                    check(&format!("blk.{i}.{name}.bias"), &[rows])?;
                }
            }
            if self.head_norms {
                for name in ["attn_q_norm", "attn_k_norm"] {
                    check(&format!("blk.{i}.{name}.weight"), &[self.key_length.into()])?;
                }
            }
        }
        let factors = ["rope_factors_short.weight", "rope_factors_long.weight"];
        let scaled = matches!(self.rope_scaling, RopeScaling::LongRope(_));
        for name in factors.into_iter().filter(|_| scaled) {
            check(name, &[u64::from(self.rope_dimension_count / 2)])?;
        }
        if self.rope_divisors {
            let pairs = u64::from(self.rope_dimension_count / 2);
            check("rope_freqs.weight", &[pairs])?;
        }
        // Another bias, a norm elsewhere or experts would silently change every result.
        let known = |name: &str| {
            let parts: Vec<_> = name.split('.').collect();
            match parts.as_slice() {
                [
                    "token_embd" | "output_norm" | "output" | "rope_freqs",
                    "weight",
                ] => true,
                ["rope_factors_short" | "rope_factors_long", "weight"] => scaled,
                ["blk", _, "attn_q" | "attn_k" | "attn_v", "bias"] => self.biases,
                ["blk", _, "attn_q_norm" | "attn_k_norm", "weight"] => self.head_norms,
                ["blk", _, part, "weight"] => matches!(
                    *part,
                    "attn_norm"
                        | "attn_q"
                        | "attn_k"
                        | "attn_v"
                        | "attn_output"
                        | "ffn_norm"
                        | "ffn_gate"
                        | "ffn_up"
                        | "ffn_down"
                ),
                _ => false,
            }
        };
        match gguf.tensors().iter().find(|tensor| !known(&tensor.name)) {
            None => Ok(()),
            Some(tensor) => Err(ModelError::Unsupported {
                feature: format!("the tensor `{}`", tensor.name),
            }),
        }
    }
}

fn in_range(key: &str, value: u32, most: u32) -> Result<u32, ModelError> {
    if (1..=most).contains(&value) {
        return Ok(value);
    }
    Err(ModelError::Value {
        key: key.to_owned(),
        given: value.to_string(),
        needed: format!("a model has 1 to {most}"),
    })
}

fn positive(gguf: &Gguf, key: &str, default: Option<f32>) -> Result<f32, ModelError> {
    let value = match (gguf.get(key), default) {
        (None, Some(default)) => default,
        _ => gguf.f32(key)?,
    };
    if value.is_finite() && value > 0.0 {
        return Ok(value);
    }
    Err(ModelError::Value {
        key: key.to_owned(),
        given: value.to_string(),
        needed: "it must be a positive number".to_owned(),
    })
}

/// The pairs of the rotation: those of the family's GGUF files, or halves where weights are not permuted for them.
fn rope_pairs(gguf: &Gguf, architecture: Architecture) -> Result<RopePairs, ModelError> {
    match gguf.get(ROPE_PAIRS).map(|value| value.as_str(ROPE_PAIRS)) {
        None => Ok(architecture.rope_pairs()),
        Some(pairs) => match pairs? {
            "halves" => Ok(RopePairs::Halves),
            other => Err(ModelError::Value {
                key: ROPE_PAIRS.to_owned(),
                given: other.chars().take(64).collect(),
                needed: "it must be \"halves\"".to_owned(),
            }),
        },
    }
}
