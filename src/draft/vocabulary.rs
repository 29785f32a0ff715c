//! The model's head over the tokens that can be drafted.

use crate::{
    gpu::Gpu,
    model::{Decoder, Gguf, WeightLoader, WeightSource},
    ops::Matrix,
    tree::TokenMap,
};

use super::DrafterLoadError;

/// The rows of the model's head that belong to the draft vocabulary.
#[derive(Debug)]
pub(super) struct DraftHead {
    /// `[id, width]`
    pub matrix: Matrix,
    /// Token of each id, ascending: neighbouring rows are read together, and ties go to the lower token.
    pub tokens: Vec<u32>,
    /// The same on the GPU.
    pub map: TokenMap,
}

impl DraftHead {
    /// Loads the rows of `wanted`, in any order; of all tokens where it is empty.
    pub async fn load<S: WeightSource>(
        gpu: &Gpu,
        decoder: &Decoder,
        gguf: &Gguf,
        source: &mut S,
        wanted: &[u32],
    ) -> Result<Self, DrafterLoadError> {
        let vocabulary = decoder.hyperparameters().vocabulary;
        let mut tokens = wanted.to_vec();
        if tokens.is_empty() {
            tokens.extend(0..vocabulary);
        }
        tokens.sort_unstable();
        tokens.dedup();
        if let Some(id) = tokens.iter().find(|id| **id >= vocabulary) {
            let given = format!("the id {id}");
            return Err(DrafterLoadError::Vocabulary { vocabulary, given });
        }
        let name = match gguf.find_tensor("output.weight") {
            Some(_) => "output.weight",
            None => "token_embd.weight",
        };
        let progress = &mut |_, _| ();
        let mut loader = WeightLoader::new(gpu, gguf, source, progress);
        Ok(Self {
            matrix: loader.picked(name, &tokens).await?,
            map: TokenMap::new(gpu, &tokens, vocabulary)?,
            tokens,
        })
    }

    /// Ids of the draft vocabulary.
    pub fn ids(&self) -> u32 {
        self.tokens.len() as u32
    }
}
