//! How the rotation goes on past the context that a model was trained on first.

use std::f64::consts::TAU;

use super::{Gguf, ModelError, gguf::Value};

/// Scaling of RoPE's frequencies.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Positions are divided by this; 1 for no scaling.
    Linear(f32),
    /// YaRN (Peng et al. 2023): slow pairs are stretched, fast ones stay.
    Yarn(Yarn),
    /// LongRoPE (Ding et al. 2024): a divisor for each pair, of one list up to the original context and of another
    /// beyond it: the tensors `rope_factors_short.weight` and `rope_factors_long.weight`.
    LongRope(LongRope),
}

/// Numbers of YaRN, as llama.cpp and `transformers` use them: the ramp between stretched and kept pairs is linear in
/// the pair's index.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// By how much slow pairs are stretched.
    pub factor: f32,
    /// Tokens of the context before it was stretched.
    pub original_context: u32,
    /// Pairs that turn more often than this in the original context are not stretched.
    pub beta_fast: f32,
    /// Pairs that turn less often than this are stretched whole.
    pub beta_slow: f32,
    /// Factor on queries and keys, beside the `1 + 0.1 ln(factor)` of the paper.
    pub attention_factor: f32,
}

/// Numbers of LongRoPE.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LongRope {
    /// Tokens of the context up to which the short list holds.
    pub original_context: u32,
    /// Factor on queries and keys.
    pub attention_factor: f32,
}

/// What a table of the rotation is made with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Turns {
    /// Divisors of the pairs' frequencies; past the list's end 1.
    pub divisors: Vec<f64>,
    /// Factor on sine and cosine.
    pub magnitude: f64,
}

impl Yarn {
    /// Of each of `rotated / 2` pairs, what its frequency is divided by.
    fn divisors(&self, rotated: u32, base: f64) -> Vec<f64> {
        let factor = f64::from(self.factor);
        // The pair, as a real number, that turns so often in the original context.
        let pair_of = |turns: f32| {
            let context = f64::from(self.original_context);
            let wavelength = (context / (f64::from(turns) * TAU)).ln();
            f64::from(rotated) * wavelength / (2.0 * base.ln())
        };
        let low = pair_of(self.beta_fast).floor().max(0.0);
        let high = pair_of(self.beta_slow).ceil().min(f64::from(rotated) - 1.0);
        let width = (high - low).max(1e-3);
        let divisor = |pair: u32| {
            let stretched = ((f64::from(pair) - low) / width).clamp(0.0, 1.0);
            1.0 / (stretched / factor + (1.0 - stretched))
        };
        (0..rotated / 2).map(divisor).collect()
    }
}

impl RopeScaling {
    /// From a file's metadata.
    pub(super) fn from_gguf(gguf: &Gguf, architecture: &str) -> Result<Self, ModelError> {
        let key = |name: &str| format!("{architecture}.rope.scaling.{name}");
        let kind = match gguf
            .get(&key("type"))
            .map(|v: &Value| v.as_str(&key("type")))
        {
            None => "linear",
            Some(kind) => kind?,
        };
        let number = |names: &[&str], default: f32| -> Result<f32, ModelError> {
            let there = names
                .iter()
                .map(|name| key(name))
                .find(|key| gguf.get(key).is_some());
            match there {
                // A factor of 0 is how some converters write that there is none.
                Some(key) if gguf.f32(&key)? != 0.0 => positive(gguf, &key),
                _ => Ok(default),
            }
        };
        let original_context = || -> Result<u32, ModelError> {
            let keys = [
                key("original_context_length"),
                format!("{architecture}.context_length"),
            ];
            let there = keys.into_iter().find(|key| gguf.get(key).is_some());
            let there = there.unwrap_or_else(|| key("original_context_length"));
            match gguf.u32(&there)? {
                context @ 1..=0x4000_0000 => Ok(context),
                context => Err(ModelError::Value {
                    key: there,
                    given: context.to_string(),
                    needed: "a model has 1 to 1073741824".to_owned(),
                }),
            }
        };
        match kind {
            "none" => Ok(Self::Linear(1.0)),
            "linear" => {
                // Older files have the factor under another key.
                let old = format!("{architecture}.rope.scale_linear");
                if gguf.get(&key("factor")).is_none() && gguf.get(&old).is_some() {
                    return match gguf.f32(&old)? != 0.0 {
                        true => Ok(Self::Linear(positive(gguf, &old)?)),
                        false => Ok(Self::Linear(1.0)),
                    };
                }
                Ok(Self::Linear(number(&["factor"], 1.0)?))
            }
            "yarn" => Ok(Self::Yarn(Yarn {
                factor: number(&["factor"], 1.0)?,
                original_context: original_context()?,
                beta_fast: number(&["yarn_beta_fast"], 32.0)?,
                beta_slow: number(&["yarn_beta_slow"], 1.0)?,
                attention_factor: number(&["yarn_attn_factor", "attn_factor"], 1.0)?,
            })),
            "longrope" => {
                let original_context = original_context()?;
                let context = gguf.u32(&format!("{architecture}.context_length"))?;
                let stretch = f64::from(context) / f64::from(original_context);
                let usual = match stretch <= 1.0 {
                    true => 1.0,
                    false => (1.0 + stretch.ln() / f64::from(original_context).ln()).sqrt(),
                };
                Ok(Self::LongRope(LongRope {
                    original_context,
                    attention_factor: number(&["attn_factor"], usual as f32)?,
                }))
            }
            other => Err(ModelError::Unsupported {
                feature: format!("RoPE scaling of type {other:?}"),
            }),
        }
    }

    /// The tensor with divisors of the frequencies for texts of up to `context` tokens, where the scaling has one.
    pub(super) fn divisor_tensor(&self, context: u32) -> Option<&'static str> {
        match self {
            Self::LongRope(LongRope {
                original_context, ..
            }) => Some(match context > *original_context {
                true => "rope_factors_long.weight",
                false => "rope_factors_short.weight",
            }),
            _ => None,
        }
    }

    /// What a table of `rotated` elements is made with; `divisors` are those of a tensor, or none.
    pub(crate) fn turns(&self, rotated: u32, base: f64, divisors: &[f32]) -> Turns {
        let pairs = (rotated / 2) as usize;
        let given = |pair: usize| divisors.get(pair).copied().map_or(1.0, f64::from);
        let (own, magnitude) = match self {
            Self::Linear(factor) => (vec![f64::from(*factor); pairs], 1.0),
            Self::Yarn(yarn) => {
                let attention = 1.0 + 0.1 * f64::from(yarn.factor).ln();
                let attention = f64::from(yarn.attention_factor) * attention;
                (yarn.divisors(rotated, base), attention)
            }
            Self::LongRope(long) => (vec![1.0; pairs], f64::from(long.attention_factor)),
        };
        Turns {
            divisors: own
                .iter()
                .enumerate()
                .map(|(pair, own)| own * given(pair))
                .collect(),
            magnitude,
        }
    }

    /// Numbers that tell one scaling from another.
    pub(super) fn numbers(&self) -> [f32; 5] {
        match *self {
            Self::Linear(factor) => [factor, 0.0, 0.0, 0.0, 0.0],
            Self::Yarn(yarn) => [
                yarn.factor,
                yarn.original_context as f32,
                yarn.beta_fast,
                yarn.beta_slow,
                yarn.attention_factor,
            ],
            Self::LongRope(long) => [
                0.0,
                long.original_context as f32,
                0.0,
                0.0,
                long.attention_factor,
            ],
        }
    }
}

fn positive(gguf: &Gguf, key: &str) -> Result<f32, ModelError> {
    let value = gguf.f32(key)?;
    match value.is_finite() && value > 0.0 {
        true => Ok(value),
        false => Err(ModelError::Value {
            key: key.to_owned(),
            given: value.to_string(),
            needed: "it must be a positive number".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::rope::yarn_divisors;

    #[test]
    fn yarn_is_the_twins() {
        for (rotated, base, factor, original_context) in [
            (64, 10_000.0, 4.0, 2048),
            (128, 1e6, 2.5, 32_768),
            (12, 10_000.0, 8.0, 64),
        ] {
            let yarn = Yarn {
                factor,
                original_context,
                beta_fast: 32.0,
                beta_slow: 1.0,
                attention_factor: 1.0,
            };
            let turns = RopeScaling::Yarn(yarn).turns(rotated, base, &[]);
            let dims = rotated as usize;
            let twin = yarn_divisors(dims, base, f64::from(factor), original_context, [32.0, 1.0]);
            for (own, twin) in turns.divisors.iter().zip(&twin) {
                assert!((own - twin).abs() < 1e-12 * twin, "{rotated}: {own} {twin}");
            }
            assert_eq!(turns.divisors.len(), twin.len());
            assert!((turns.magnitude - (1.0 + 0.1 * f64::from(factor).ln())).abs() < 1e-12);
        }
    }

    #[test]
    fn linear_scaling_and_lists_of_divisors_multiply() {
        let turns = RopeScaling::Linear(2.0).turns(6, 10_000.0, &[1.0, 3.0]);
        assert_eq!(
            (turns.divisors, turns.magnitude),
            (vec![2.0, 6.0, 2.0], 1.0)
        );
        let long = LongRope {
            original_context: 4096,
            attention_factor: 1.25,
        };
        let long = RopeScaling::LongRope(long);
        let turns = long.turns(4, 10_000.0, &[1.5, 2.0]);
        assert_eq!((turns.divisors, turns.magnitude), (vec![1.5, 2.0], 1.25));
        assert_eq!(long.divisor_tensor(4096), Some("rope_factors_short.weight"));
        assert_eq!(long.divisor_tensor(4097), Some("rope_factors_long.weight"));
    }
}
