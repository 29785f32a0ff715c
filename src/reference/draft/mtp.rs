//! An MTP module used recursively (DeepSeek-V3, 2024, section 2.2): the oracle of `src/draft/mtp`.
//!
//! Of a position it takes the feature `h` and the embedding `e` of the token after it, and gives a new feature:
//! one decoder layer over `[rms_norm(h); rms_norm(e)] W^T`, rotated as at the position of that token.

use std::collections::HashMap;

use crate::reference::attention::Mask;
use crate::reference::decoder::{Decoder, DecoderConfig, DecoderWeights};
use crate::reference::embedding::embedding;
use crate::reference::linear::linear;
use crate::reference::norm::rms_norm;
use crate::reference::reduce::argmax;
use crate::reference::tree::DynamicGrowth;
use crate::reference::{ReferenceError, check_argument, check_length};
use crate::tree::DraftTree;

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

/// How a tree grows: see [`DynamicTreeShape`](crate::tree::DynamicTreeShape).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growth {
    /// Levels that are drafted, at least 1.
    pub depth: usize,
    /// Most nodes of a level that the module runs on.
    pub width: usize,
    /// Candidates of each of them.
    pub children: usize,
    /// Most nodes of the finished tree, the root included.
    pub max_nodes: usize,
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

    /// As [`draft`](Self::draft), but a tree that grows level by level where the module is sure (Li et al. 2024, EAGLE-2):
    /// each node on its parent's feature, and seeing its ancestors alone. Of the candidates `vocabulary`, or of all
    /// tokens where it is empty.
    ///
    /// # Errors
    /// Those of [`draft`](Self::draft).
    pub fn draft_tree(
        &mut self,
        features: &[f64],
        tokens: &[u32],
        growth: &Growth,
        vocabulary: &[u32],
    ) -> Result<DraftTree, ReferenceError> {
        check_argument(!tokens.is_empty(), "tokens", "at least one", tokens.len())?;
        let root = tokens[tokens.len() - 1];
        let width = self.stack.config().width;
        let first = self.step(features, tokens)?;
        let committed = self.stack.len();
        let mut tree = DynamicGrowth::new(root);
        let rows = self.candidates(&first, vocabulary)?;
        let mut features = HashMap::from([(0, first)]);
        let mut level = tree.expand(&[0], &views(&rows), growth.children, growth.width);
        let mut ran: Vec<usize> = Vec::new(); // entries whose keys follow the committed ones
        for depth in 1..growth.depth {
            ran.extend(&level);
            let entries = tree.entries().to_vec();
            let parent = |entry: usize| entries[entry].parent as usize;
            let hidden: Vec<f64> = (level.iter())
                .flat_map(|&entry| features[&parent(entry)].clone())
                .collect();
            let of_level: Vec<u32> = level.iter().map(|&entry| entries[entry].token).collect();
            let depth_of = |mut entry: usize| {
                let mut depth = 0;
                while entry != 0 {
                    (entry, depth) = (parent(entry), depth + 1);
                }
                depth
            };
            let sees = |query: usize, key: usize| {
                let mut entry = level[query];
                while entry != 0 && entry != ran[key] {
                    entry = parent(entry);
                }
                entry == ran[key]
            };
            let visible = |_: usize, query: usize, key: usize| match key.checked_sub(committed) {
                None => true,
                Some(node) => sees(query, node),
            };
            let distance = |_: usize, _: usize, key: usize| match key.checked_sub(committed) {
                None => committed + depth - 1 - key,
                Some(node) => depth - depth_of(ran[node]),
            };
            let mask = Mask::Tree {
                visible: &visible,
                distance: &distance,
            };
            let x = self.input(&hidden, &of_level)?;
            let positions = vec![committed + depth; level.len()];
            let x = self.stack.layers(x, &positions, &mask)?;
            for (&entry, own) in level.iter().zip(x.chunks(width)) {
                features.insert(entry, own.to_vec());
            }
            let rows = self.candidates(&x, vocabulary)?;
            level = tree.expand(&level, &views(&rows), growth.children, growth.width);
        }
        self.stack.truncate(committed);
        tree.finish(growth.max_nodes)
            .map_err(|error| ReferenceError::Argument {
                argument: "max_nodes",
                needed: "at least 1",
                given: error.to_string(),
            })
    }

    /// Logits of each row, of the tokens in `vocabulary` alone.
    fn candidates(
        &self,
        features: &[f64],
        vocabulary: &[u32],
    ) -> Result<Vec<Vec<f32>>, ReferenceError> {
        let tokens = self.stack.config().vocab;
        let logits = self.stack.head(features)?;
        let known = |token: usize| vocabulary.is_empty() || vocabulary.contains(&(token as u32));
        let row = |row: &[f64]| {
            let pairs = row.iter().enumerate();
            let kept = pairs.map(|(token, &logit)| match known(token) {
                true => logit as f32,
                false => f32::NEG_INFINITY,
            });
            kept.collect()
        };
        Ok(logits.chunks(tokens).map(row).collect())
    }

    /// Appends positions to the cache; returns the module's own feature of the last one, `[width]`.
    fn step(&mut self, features: &[f64], tokens: &[u32]) -> Result<Vec<f64>, ReferenceError> {
        let (width, rows) = (self.stack.config().width, tokens.len());
        let x = self.input(features, tokens)?;
        let first = self.stack.len() + 1; // the position of the token, not of the feature
        let positions: Vec<usize> = (first..first + rows).collect();
        let x = self.stack.layers(x, &positions, &Mask::Causal)?;
        Ok(x[(rows - 1) * width..].to_vec())
    }

    /// What the layer reads of features and the tokens after them, `[position, width]`.
    fn input(&self, features: &[f64], tokens: &[u32]) -> Result<Vec<f64>, ReferenceError> {
        let (config, rows) = (self.stack.config(), tokens.len());
        let (width, eps) = (config.width, config.eps);
        check_length("features", "[position, width]", features, &[rows, width])?;
        let hidden = rms_norm(features, &self.hidden_norm, eps)?;
        let embedded = embedding(&self.embedding, tokens, width)?;
        let embedded = rms_norm(&embedded, &self.embed_norm, eps)?;
        let halves = hidden.chunks(width).zip(embedded.chunks(width));
        let both: Vec<f64> = halves.flat_map(|(h, e)| [h, e].concat()).collect();
        linear(&both, &self.projection, None, rows, 2 * width, width)
    }
}

fn views(rows: &[Vec<f32>]) -> Vec<&[f32]> {
    rows.iter().map(Vec::as_slice).collect()
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
    fn a_tree_holds_the_chain_and_leaves_nothing_behind() {
        let growth = |width, children, max_nodes| Growth {
            depth: 3,
            width,
            children,
            max_nodes,
        };
        let mut mtp = Mtp::new(&config(), weights(1.0)).unwrap();
        let chain = mtp.draft(&[1.0, 4.0], &[1], 3).unwrap();
        let narrow = Mtp::new(&config(), weights(1.0))
            .unwrap()
            .draft_tree(&[1.0, 4.0], &[1], &growth(1, 1, 4), &[])
            .unwrap();
        assert_eq!(narrow.tokens()[1..], chain);
        assert!(narrow.is_chain());
        let mut mtp = Mtp::new(&config(), weights(1.0)).unwrap();
        let wide = mtp.draft_tree(&[1.0, 4.0], &[1], &growth(3, 3, 40), &[]);
        let wide = wide.unwrap();
        // Three children of the root, and of three nodes on each of the next levels.
        assert_eq!(wide.len(), 1 + 3 + 9 + 9);
        assert!((1..wide.len()).any(|node| {
            let path = wide.path_to(node).unwrap_or_default();
            let tokens = path
                .iter()
                .skip(1)
                .map(|&node| wide.tokens()[node as usize]);
            tokens.eq(chain.iter().copied())
        }));
        assert_eq!(mtp.len(), 1);
        // Of a shortened vocabulary alone.
        let mut mtp = Mtp::new(&config(), weights(1.0)).unwrap();
        let short = mtp.draft_tree(&[1.0, 4.0], &[1], &growth(3, 3, 40), &[0, 2]);
        assert!(short.unwrap().tokens()[1..].iter().all(|&token| token != 1));
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
