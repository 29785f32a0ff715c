//! Medusa heads (Cai et al. 2024): each drafts one token from the target's feature alone.
//!
//! Head `k` sees the feature of the token before the root, where the target has chosen the root, and guesses
//! the token `k + 1` places after it: `n + SiLU(n W_k^T + b_k)` of the normed feature `n`, through the model's head.
//! Heads don't see each other's choice, so their guesses are combined into a tree, of the paths that are
//! likeliest right.

mod heads;
mod paths;

use std::io::{Read, Seek};

use super::{
    DraftContext, DraftCost, DraftError, DraftLimits, Drafted, Drafter, DrafterLoadError,
    Recording, weights::WeightFile,
};
use crate::{
    gpu::Gpu,
    model::{Decoder, Gguf, ReaderSource, WeightSource},
    tree::DraftTree,
};
use heads::Heads;

/// How a [`MedusaDrafter`] drafts.
#[derive(Debug, Clone, PartialEq)]
pub struct MedusaOptions {
    /// Most nodes of a tree, the root included: 2 to 512, others are clamped. Default 64.
    pub nodes: usize,
    /// Tokens that can be drafted, the most frequent ones of the model's, in any order; empty for all.
    pub vocabulary: Vec<u32>,
    /// How often the right token is among the `rank + 1` likeliest of a head, `[head][rank]`, where those
    /// before it were right: which paths a tree has. Of heads that are not listed the last list counts.
    pub hit_rates: Vec<Vec<f64>>,
}

impl Default for MedusaOptions {
    /// With the rates of the demo model's heads after the first part of their training (`models/`).
    fn default() -> Self {
        MedusaOptions {
            nodes: 64,
            vocabulary: Vec::new(),
            hit_rates: vec![
                vec![
                    0.413, 0.529, 0.592, 0.634, 0.664, 0.689, 0.708, 0.725, 0.738, 0.751,
                ],
                vec![
                    0.244, 0.333, 0.390, 0.431, 0.461, 0.486, 0.507, 0.525, 0.542, 0.556,
                ],
                vec![
                    0.178, 0.253, 0.302, 0.338, 0.369, 0.395, 0.416, 0.435, 0.452, 0.468,
                ],
                vec![
                    0.142, 0.211, 0.257, 0.293, 0.325, 0.351, 0.374, 0.394, 0.412, 0.429,
                ],
            ],
        }
    }
}

/// Drafts trees with Medusa heads: one pass over the heads, whatever the tree.
///
/// The weights are `medusa.{k}.linear.weight`, `[width, width]`, and `medusa.{k}.linear.bias` of each head from 0
/// on, all F16. Output norm and head are the model's.
#[derive(Debug)]
pub struct MedusaDrafter {
    heads: Heads,
    rates: Vec<Vec<f64>>, // [head][rank]
    nodes: usize,
    paths: Vec<Vec<usize>>, // of the draft that was answered with
    bound: Vec<Vec<usize>>, // as the GPU has them
}

impl MedusaDrafter {
    /// Loads the heads from the bytes of a safetensors file, for `decoder`, which was loaded from `gguf` and
    /// `reader`.
    ///
    /// # Errors
    /// [`DrafterLoadError`] for weights that do not fit the model, a draft vocabulary that it does not
    /// have, and the device's errors.
    pub async fn load<R: Read + Seek>(
        gpu: &Gpu,
        decoder: &Decoder,
        gguf: &Gguf,
        reader: &mut R,
        weights: &[u8],
        options: &MedusaOptions,
    ) -> Result<Self, DrafterLoadError> {
        let source = &mut ReaderSource(reader);
        Self::load_from(gpu, decoder, gguf, source, weights, options).await
    }

    /// As [`load`](Self::load), from a source of the model file whose bytes may have to be waited for.
    ///
    /// # Errors
    /// Those of [`load`](Self::load).
    pub async fn load_from<S: WeightSource>(
        gpu: &Gpu,
        decoder: &Decoder,
        gguf: &Gguf,
        source: &mut S,
        weights: &[u8],
        options: &MedusaOptions,
    ) -> Result<Self, DrafterLoadError> {
        let file = WeightFile::new(gpu, weights)?;
        let nodes = (options.nodes.clamp(2, 512)).min(decoder.max_nodes() as usize);
        let mut rates = paths::rank_rates(&options.hit_rates);
        let last = rates.last().cloned().unwrap_or_else(|| vec![1.0]);
        rates.resize(rates.len().max(heads::MAX_HEADS), last);
        let vocabulary = &options.vocabulary;
        let most = |heads| paths::likeliest_paths(&rates, nodes - 1, heads, usize::MAX);
        let heads = Heads::new(gpu, decoder, gguf, source, &file, vocabulary, most).await?;
        let bound = most(heads.count());
        // No more candidates of a head are found than the whole tree needs: a shallower one must not ask for others.
        paths::keep_ranks_of(&mut rates, &bound);
        Ok(MedusaDrafter {
            bound,
            heads,
            rates,
            nodes,
            paths: Vec::new(),
        })
    }
}

impl Drafter for MedusaDrafter {
    fn name(&self) -> &str {
        "medusa"
    }

    fn limits(&self) -> DraftLimits {
        DraftLimits::new(self.nodes, self.heads.count(), true, DraftCost::Once)
    }

    fn draft(&mut self, context: &DraftContext<'_>) -> Result<Drafted, DraftError> {
        let root = context.root()?;
        let ranks = if context.branches { usize::MAX } else { 1 };
        let depth = context.max_depth.min(self.heads.count());
        let nodes = context.max_nodes.min(self.nodes);
        self.paths.clear();
        // Without the feature of the token before the root there is nothing to draft from.
        if !context.features.rows.is_empty() {
            self.paths = paths::likeliest_paths(&self.rates, nodes - 1, depth, ranks);
        }
        if self.paths.is_empty() {
            return Ok(Drafted::OnHost(DraftTree::root_only(root)));
        }
        // The rank stands for the token.
        let most = self.paths.iter().flatten().max().copied().unwrap_or(0);
        let placeholders = vec![Vec::from_iter(0..=most as u32); depth];
        let tree = DraftTree::from_paths(root, &self.paths, &placeholders)?;
        Ok(Drafted::OnGpu(tree))
    }

    fn record(&mut self, recording: &mut Recording<'_>) -> Result<(), DraftError> {
        let Some(&row) = recording.features.rows.last() else {
            return Ok(());
        };
        if !recording.drafting || self.paths.is_empty() {
            return Ok(());
        }
        if self.bound != self.paths {
            self.heads.set_paths(recording.gpu, &self.paths)?;
            self.bound.clone_from(&self.paths);
        }
        self.heads.record(recording.gpu, recording.encoder, row);
        Ok(())
    }
}
