//! An MTP module used recursively (DeepSeek-V3, 2024, section 2.2): the oracle of `src/draft/mtp`.
//!
//! Of a position it takes the feature `h` and the embedding `e` of the token after it, and gives a new feature:
//! one decoder layer over `[rms_norm(h); rms_norm(e)] W^T`, rotated as at the position of that token.

use crate::reference::attention::Mask;
use crate::reference::decoder::{Decoder, DecoderConfig, DecoderWeights};
use crate::reference::embedding::embedding;
use crate::reference::linear::linear;
use crate::reference::norm::rms_norm;
use crate::reference::reduce::argmax;
use crate::reference::{ReferenceError, check_argument, check_length};

/// The weights of a module, dequantised.
#[derive(Debug, Clone, PartialEq)]
pub struct MtpWeights {
    /// Of the norm of the feature, `[width]`.
    pub hidden_norm: Vec<f32>,
    /// Of the norm of the embedding, `[width]`.
    pub embed_norm: Vec<f32>,
    /// `[width, 2 * width]`, the feature's half first.
    pub projection: Vec<f32>,
    /// Its one layer, its output norm, and the embedding and output of the model it drafts for.
    pub stack: DecoderWeights,
}

/// A module and its cache: the keys of every position whose feature it was given.
#[derive(Debug, Clone)]
pub struct Mtp {
    stack: Decoder,
    embedding: Vec<f32>,
    hidden_norm: Vec<f32>,
    embed_norm: Vec<f32>,
    projection: Vec<f32>,
}

impl Mtp {
    /// A module with an empty cache; `config` is that of the model, its number of layers aside.
    ///
    /// # Errors
    /// [`ReferenceError`] for weights that do not fit.
    pub fn new(config: &DecoderConfig, weights: MtpWeights) -> Result<Self, ReferenceError> {
        let width = config.width;
        for (name, norm) in [
            ("hidden_norm", &weights.hidden_norm),
            ("embed_norm", &weights.embed_norm),
        ] {
            check_length(name, "[width]", norm, &[width])?;
        }
        let axes = "[width, 2 * width]";
        check_length("projection", axes, &weights.projection, &[width, 2 * width])?;
        let config = DecoderConfig {
            layers: 1,
            ..config.clone()
        };
        Ok(Mtp {
            embedding: weights.stack.embedding.clone(),
            stack: Decoder::new(config, weights.stack)?,
            hidden_norm: weights.hidden_norm,
            embed_norm: weights.embed_norm,
            projection: weights.projection,
        })
    }

    /// Positions whose features it was given.
    pub fn len(&self) -> usize {
        self.stack.len()
    }

    /// Whether it was given none.
    pub fn is_empty(&self) -> bool {
        self.stack.is_empty()
    }

    /// Forgets all but the first `length` positions.
    pub fn truncate(&mut self, length: usize) {
        self.stack.truncate(length);
    }

    /// Takes the model's features `[position, width]` of the positions after those it has, and the token after
    /// each, and drafts `depth` tokens after the last of these. Only the model's features stay in the cache.
    ///
    /// # Errors
    /// [`ReferenceError`] when there is no position, or not one token a feature, or a token is unknown.
    pub fn draft(
        &mut self,
        features: &[f64],
        tokens: &[u32],
        depth: usize,
    ) -> Result<Vec<u32>, ReferenceError> {
        check_argument(!tokens.is_empty(), "tokens", "at least one", tokens.len())?;
        let mut feature = self.step(features, tokens)?;
        let committed = self.stack.len();
        let mut drafted = Vec::new();
        while drafted.len() < depth {
            let logits = self.stack.head(&feature)?;
            let token = argmax(&logits).unwrap_or(0) as u32;
            drafted.push(token);
            if drafted.len() < depth {
                feature = self.step(&feature, &[token])?;
            }
        }
        self.stack.truncate(committed);
        Ok(drafted)
    }

    /// Appends positions to the cache; returns the module's own feature of the last one, `[width]`.
    fn step(&mut self, features: &[f64], tokens: &[u32]) -> Result<Vec<f64>, ReferenceError> {
        let (config, rows) = (self.stack.config(), tokens.len());
        let (width, eps) = (config.width, config.eps);
        check_length("features", "[position, width]", features, &[rows, width])?;
        let hidden = rms_norm(features, &self.hidden_norm, eps)?;
        let embedded = embedding(&self.embedding, tokens, width)?;
        let embedded = rms_norm(&embedded, &self.embed_norm, eps)?;
        let halves = hidden.chunks(width).zip(embedded.chunks(width));
        let both: Vec<f64> = halves.flat_map(|(h, e)| [h, e].concat()).collect();
        let x = linear(&both, &self.projection, None, rows, 2 * width, width)?;
        let first = self.stack.len() + 1; // the position of the token, not of the feature
        let positions: Vec<usize> = (first..first + rows).collect();
        let x = self.stack.layers(x, &positions, &Mask::Causal)?;
        Ok(x[(rows - 1) * width..].to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::decoder::{Family, LayerWeights};

    fn config() -> DecoderConfig {
        DecoderConfig {
            layers: 1,
            width: 2,
            heads: 1,
            kv_heads: 1,
            head_dim: 2,
            ff: 2,
            vocab: 3,
            rope_base: 10_000.0,
            rope_dim: 2,
            rope_divisors: None,
            eps: 0.0,
            family: Family::default(),
        }
    }

    /// The embeddings are (1, 0), (0, 1) and (0, -1); the projection gives (2 h0, -e1) of normalised h and e;
    /// attention adds `mixing` times the mean of the values.
    fn weights(mixing: f32) -> MtpWeights {
        let unit = vec![1.0, 0.0, 0.0, 1.0];
        let zero = vec![0.0; 4];
        MtpWeights {
            hidden_norm: vec![1.0; 2],
            embed_norm: vec![1.0; 2],
            projection: vec![2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0],
            stack: DecoderWeights {
                embedding: vec![1.0, 0.0, 0.0, 1.0, 0.0, -1.0],
                layers: vec![LayerWeights {
                    attention_norm: vec![1.0; 2],
                    query: zero.clone(),
                    key: zero.clone(),
                    value: unit.clone(),
                    attention_output: unit.iter().map(|x| x * mixing).collect(),
                    biases: None,
                    head_norms: None,
                    ff_norm: vec![1.0; 2],
                    gate: zero.clone(),
                    up: zero.clone(),
                    down: zero,
                }],
                output_norm: vec![1.0; 2],
                output: None,
            },
        }
    }

    #[test]
    fn a_chain_worked_by_hand() {
        let mut mtp = Mtp::new(&config(), weights(0.0)).unwrap();
        // h = (1, 4) / 2.915 and e = (0, 1) / 0.707 give (0.686, -1.414): the likeliest is token 2.
        // (0.686, -1.414) / 1.111 and token 2 give (1.235, 1.414): token 1.
        // (1.235, 1.414) / 1.327 and token 1 give (1.860, -1.414): token 0.
        assert_eq!(mtp.draft(&[1.0, 4.0], &[1], 3), Ok(vec![2, 1, 0]));
        assert_eq!(mtp.len(), 1);
        // The same feature with another token after it: (0.686, 1.414).
        assert_eq!(mtp.draft(&[1.0, 4.0], &[2], 1), Ok(vec![1]));
        assert_eq!(mtp.len(), 2);
    }

    #[test]
    fn earlier_positions_are_attended_to() {
        // Alone a position with token 1 adds its own value and stays at token 2. Behind three positions whose
        // values point the other way, the mean is theirs, and they win.
        let mut alone = Mtp::new(&config(), weights(4.0)).unwrap();
        assert_eq!(alone.draft(&[0.0, 4.0], &[1], 1), Ok(vec![2]));
        let mut behind = Mtp::new(&config(), weights(4.0)).unwrap();
        let features = [0.0, 4.0].repeat(4);
        assert_eq!(behind.draft(&features, &[2, 2, 2, 1], 1), Ok(vec![1]));
        // In parts as at once, and a draft in between leaves nothing behind.
        let mut parts = Mtp::new(&config(), weights(4.0)).unwrap();
        parts.draft(&features[..4], &[2, 2], 3).unwrap();
        assert_eq!(parts.draft(&features[4..], &[2, 1], 1), Ok(vec![1]));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut mtp = Mtp::new(&config(), weights(0.0)).unwrap();
        assert!(mtp.draft(&[], &[], 1).is_err());
        assert!(mtp.draft(&[1.0, 4.0], &[1, 2], 1).is_err());
        assert!(mtp.draft(&[1.0, 4.0], &[3], 1).is_err());
        assert!(mtp.is_empty());
        let mut short = weights(0.0);
        short.projection.pop();
        assert!(Mtp::new(&config(), short).is_err());
    }
}
