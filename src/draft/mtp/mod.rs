//! An MTP module used recursively (DeepSeek-V3, 2024, section 2.2), as a chain.
//!
//! The module is one layer. It reads the target's feature `h` of a position (the residual stream after
//! the last layer) and the embedding `e` of the token after it, `x = [RMS(h); RMS(e)] W^T`, and gives a new
//! feature, from which the head tells the token after that one. Used again on its own feature and
//! its own token it drafts further. It has a cache of one layer: committed positions hold keys made from
//! the target's features. Every step first computes those of the positions that the last step
//! committed; the same pass gives the first drafted token.

mod module;

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
use module::{MAX_STEPS, Module};

/// How an [`MtpDrafter`] drafts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MtpOptions {
    /// Drafted tokens of a chain: 1 to 64, others are clamped. Default 4.
    pub tokens: usize,
    /// Tokens that can be drafted, the most frequent ones of the model's, in any order; empty for all. A shorter list
    /// makes the draft head cheaper.
    pub vocabulary: Vec<u32>,
}

impl Default for MtpOptions {
    fn default() -> Self {
        MtpOptions {
            tokens: 4,
            vocabulary: Vec::new(),
        }
    }
}

/// Drafts chains with an MTP module.
///
/// The weights are those of one decoder layer whose rotation is the model's own, with norms and a projection
/// in front of it, all F16: `mtp.hidden_norm`, `mtp.embed_norm`, `mtp.proj` (`[width, 2 width]`, the feature's
/// half first), `mtp.attn_norm`, `mtp.attn_{q,k,v,output}`, `mtp.ffn_norm`, `mtp.ffn_{gate,up,down}` and
/// `mtp.output_norm`, each followed by `.weight`. Embedding and head are the model's.
///
/// Give it to a session before the prompt: put in the middle of a sequence it has no keys of what came
/// before. The text stays right then, but fewer drafted tokens are kept.
#[derive(Debug)]
pub struct MtpDrafter {
    module: Module,
    tokens: usize,
    depth: usize, // of the draft that was answered with
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
        let vocabulary = decoder.hyperparameters().vocabulary;
        let mut tokens = options.vocabulary.clone();
        if tokens.is_empty() {
            tokens.extend(0..vocabulary);
        }
        // Neighbouring rows are read together, and ties go to the lower token.
        tokens.sort_unstable();
        tokens.dedup();
        if let Some(id) = tokens.iter().find(|id| **id >= vocabulary) {
            let given = format!("the id {id}");
            return Err(DrafterLoadError::Vocabulary { vocabulary, given });
        }
        Ok(MtpDrafter {
            module: Module::new(gpu, decoder, gguf, source, &file, &tokens).await?,
            tokens: options.tokens.clamp(1, MAX_STEPS),
            depth: 0,
        })
    }
}

impl Drafter for MtpDrafter {
    fn name(&self) -> &str {
        "mtp"
    }

    fn limits(&self) -> DraftLimits {
        DraftLimits::new(self.tokens + 1, self.tokens, false, DraftCost::PerLevel)
    }

    fn draft(&mut self, context: &DraftContext<'_>) -> Result<Drafted, DraftError> {
        let root = context.root()?;
        // Without the feature of the token before the root there is nothing to draft from.
        let depth = match context.features.rows.is_empty() {
            true => 0,
            false => (self.tokens.min(context.max_depth)).min(context.max_nodes - 1),
        };
        self.depth = depth;
        let placeholders = vec![0; depth];
        let tree = DraftTree::chain(root, &placeholders)?;
        Ok(match depth {
            0 => Drafted::OnHost(tree),
            _ => Drafted::OnGpu(tree),
        })
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
        let depth = if recording.drafting { self.depth } else { 0 };
        let (gpu, encoder) = (recording.gpu, &mut *recording.encoder);
        self.module.record(
            gpu,
            encoder,
            features.rows,
            tokens,
            features.position,
            depth as u32,
        );
        Ok(())
    }
}
