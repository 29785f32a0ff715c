//! An MTP module used recursively (DeepSeek-V3, 2024, section 2.2), as a chain or as a tree.
//!
//! The module is one layer. It reads the target's feature `h` of a position (the residual stream after
//! the last layer) and the embedding `e` of the token after it, `x = [RMS(h); RMS(e)] W^T`, and gives a new
//! feature, from which the head tells the token after that one. Used again on its own feature and
//! its own token it drafts further. It has a cache of one layer: committed positions hold keys made from
//! the target's features. Every step first computes those of the positions that the last step
//! committed; the same pass gives the first drafted token. A tree grows from there level by level, each node
//! on its parent's feature, where the module is sure (Li et al. 2024, EAGLE-2).

mod growing;
mod module;

use std::{
    io::{Read, Seek},
    ops::Range,
};

use super::{
    DraftContext, DraftCost, DraftError, DraftLimits, Drafted, Drafter, DrafterLoadError, Growth,
    Recording, weights::WeightFile,
};
use crate::{
    gpu::Gpu,
    model::{Decoder, Gguf, ReaderSource, WeightSource},
    tree::{DraftTree, DrawKind, DynamicTreeShape, MAX_BUILT_NODES},
};
use module::{Draft, Fresh, MAX_STEPS, Module};

/// How an [`MtpDrafter`] drafts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MtpOptions {
    /// Drafted tokens of a chain: 1 to 64, others are clamped. Default 4.
    pub tokens: usize,
    /// Most nodes of a tree, the root included, where a draft may branch: up to 512, others are clamped. Default
    /// 1: only chains.
    pub nodes: usize,
    /// Levels of a tree: 1 to 16, others are clamped. Each costs a pass. Default 6.
    pub levels: usize,
    /// Nodes of a level that the module runs on: 1 to 16, others are clamped. Default 4.
    pub width: usize,
    /// Tokens that can be drafted, the most frequent ones of the model's, in any order; empty for all. A shorter list
    /// makes the draft head cheaper.
    pub vocabulary: Vec<u32>,
}

impl Default for MtpOptions {
    fn default() -> Self {
        MtpOptions {
            tokens: 4,
            nodes: 1,
            levels: 6,
            width: 4,
            vocabulary: Vec::new(),
        }
    }
}

/// Drafts chains and trees with an MTP module.
///
/// The weights are those of one decoder layer whose rotation is the model's own, with norms and a projection
/// in front of it, all F16: `mtp.hidden_norm`, `mtp.embed_norm`, `mtp.proj` (`[width, 2 width]`, the feature's
/// half first), `mtp.attn_norm`, `mtp.attn_{q,k,v,output}`, `mtp.ffn_norm`, `mtp.ffn_{gate,up,down}` and
/// `mtp.output_norm`, each followed by `.weight`. Embedding and head are the model's.
///
/// Give it to a session before the prompt: put in the middle of a sequence, or after a session was restored, it has
/// no keys of what came before and begins with the next tokens. The text is the same, but at first fewer drafted
/// tokens are kept.
#[derive(Debug)]
pub struct MtpDrafter {
    module: Module,
    tokens: usize,
    nodes: usize,
    draft: Draft,     // that was answered with
    held: Range<u32>, // positions whose keys its cache has, from slot 0 on
}

impl MtpDrafter {
    /// Loads the module from the bytes of a safetensors file, for `decoder`, which was loaded from `gguf`
    /// and `reader`.
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
        options: &MtpOptions,
    ) -> Result<Self, DrafterLoadError> {
        Self::load_from(
            gpu,
            decoder,
            gguf,
            &mut ReaderSource(reader),
            weights,
            options,
        )
        .await
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
        options: &MtpOptions,
    ) -> Result<Self, DrafterLoadError> {
        let file = WeightFile::new(gpu, weights)?;
        let nodes =
            (options.nodes.clamp(1, MAX_BUILT_NODES as usize)).min(decoder.max_nodes() as usize);
        let (depth, width) = (options.levels.clamp(1, 16), options.width.clamp(1, 16));
        let shape = |ids: u32| {
            let (depth, width) = (depth as u32, width as u32);
            // As many candidates as could be kept of one node, within reason.
            let children = width.max(8).min(ids);
            DynamicTreeShape {
                tree_stride: decoder.max_nodes(),
                ..DynamicTreeShape::new(depth, width, children, nodes as u32, ids)
            }
        };
        let vocabulary = &options.vocabulary;
        Ok(MtpDrafter {
            module: Module::new(gpu, decoder, gguf, source, &file, vocabulary, shape).await?,
            tokens: options.tokens.clamp(1, MAX_STEPS),
            nodes,
            draft: Draft::Nothing,
            held: 0..0,
        })
    }
}

impl Drafter for MtpDrafter {
    fn name(&self) -> &str {
        "mtp"
    }

    fn limits(&self) -> DraftLimits {
        let (nodes, depth) = match self.nodes {
            1 => (0, 0),
            nodes => (nodes, self.module.shape().depth as usize),
        };
        DraftLimits::new(
            nodes.max(self.tokens + 1),
            depth.max(self.tokens),
            self.nodes > 1,
            DraftCost::PerLevel,
        )
    }

    fn draft(&mut self, context: &DraftContext<'_>) -> Result<Drafted, DraftError> {
        let root = context.root()?;
        self.draft = Draft::Nothing;
        let most = context.max_nodes.min(self.nodes);
        // Without the feature of the token before the root there is nothing to draft from.
        if context.features.rows.is_empty() || context.max_depth == 0 || context.max_nodes == 1 {
            return Ok(Drafted::OnHost(DraftTree::root_only(root)));
        }
        if context.branches && most > 2 {
            let levels = self.module.shape().depth as usize;
            let depth = levels.min(context.max_depth).min(most - 1);
            self.draft = Draft::Tree {
                nodes: most as u32,
                depth: depth as u32,
            };
            return Ok(Drafted::Grown(Growth::new(root, most, depth)?));
        }
        let mut depth = (self.tokens.min(context.max_depth)).min(context.max_nodes - 1);
        let mut draw = DrawKind::TopK;
        if context.draws > 0 {
            depth = depth.min(context.draws);
            draw = DrawKind::Iid;
        }
        self.draft = Draft::Chain(depth as u32);
        let chain = DraftTree::chain(root, &vec![0; depth])?;
        Ok(Drafted::OnGpu(chain.with_draw(draw)?))
    }

    fn record(&mut self, recording: &mut Recording<'_>) -> Result<(), DraftError> {
        let features = recording.features;
        if features.rows.is_empty() {
            return Ok(());
        }
        let first = features.position as usize + 1;
        // The token after each of them.
        let Some(tokens) = recording.tokens.get(first..first + features.rows.len()) else {
            return Ok(());
        };
        // Positions that it was not given leave a gap: it begins anew after that.
        let (position, held) = (features.position, &mut self.held);
        if !(held.start..=held.end).contains(&position) {
            *held = position..position;
        }
        held.end = position + features.rows.len() as u32;
        let slot = position - held.start;
        let draft = match recording.drafting {
            true => self.draft,
            false => Draft::Nothing,
        };
        let fresh = Fresh {
            rows: features.rows,
            tokens,
            position: slot,
        };
        let (gpu, encoder) = (recording.gpu, &mut *recording.encoder);
        self.module
            .record(gpu, encoder, fresh, draft, recording.drawing)
    }

    fn reset(&mut self) {
        self.held = 0..0;
    }
}
