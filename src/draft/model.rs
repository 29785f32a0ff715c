//! A smaller model of the same vocabulary drafts (Leviathan et al. 2023; Chen et al. 2023).

use wgpu::{Buffer, CommandEncoder};

use super::{
    DraftContext, DraftCost, DraftError, DraftLimits, Drafted, Drafter, DrafterLoadError, Outcome,
    Recording,
};
use crate::{
    gpu::Gpu,
    model::{Decoder, Gguf, StepKind},
    ops::StepBuffer,
    tree::{DraftTree, DrawKind},
};

/// Drafted tokens that the script of step sizes has room for.
const MAX_TOKENS: usize = 64;

/// Refuses a draft model whose tokens are not those of the target: of both files the lists of tokens are compared, or
/// their number where a file has none.
///
/// # Errors
/// [`DrafterLoadError::OtherVocabulary`] names the first token that differs.
pub fn check_same_vocabulary(target: &Gguf, draft: &Gguf) -> Result<(), DrafterLoadError> {
    let tokens = |gguf: &Gguf| {
        let tokens = gguf.strings("tokenizer.ggml.tokens");
        tokens.map(<[String]>::to_vec).unwrap_or_default()
    };
    let (needed, given) = (tokens(target), tokens(draft));
    if needed.is_empty() || given.is_empty() {
        return Ok(());
    }
    let other = |needed, given| Err(DrafterLoadError::OtherVocabulary { needed, given });
    if needed.len() != given.len() {
        let count = |tokens: &[String]| format!("{} tokens", tokens.len());
        return other(count(&needed), count(&given));
    }
    let differing = (needed.iter().zip(&given)).position(|(needed, given)| needed != given);
    match differing {
        Some(id) => other(
            format!("{:?} as token {id}", needed[id]),
            format!("{:?}", given[id]),
        ),
        None => Ok(()),
    }
}

/// Drafts chains with a model of its own, which reads every token that the target has committed.
#[derive(Debug)]
pub struct ModelDrafter {
    decoder: Decoder,
    script: Buffer, // [pass] of a `StepBuffer`'s words
    tokens: usize,
    depth: usize, // of the draft that was answered with
    /// Tokens whose keys are in the draft model's cache.
    read: Vec<u32>,
    /// Drafted tokens whose keys follow them there, if they were kept.
    ran: usize,
}

impl ModelDrafter {
    /// A drafter of up to `tokens` tokens at a time (1 to 64, others are clamped) with the model `draft` for `target`.
    /// Whether their tokens mean the same is for [`check_same_vocabulary`] to tell.
    ///
    /// # Errors
    /// [`DrafterLoadError::OtherVocabulary`] where the numbers of tokens differ, [`DrafterLoadError::Option`] for a
    /// paged cache of the draft model, and the device's errors.
    pub fn new(
        gpu: &Gpu,
        target: &Decoder,
        draft: Decoder,
        tokens: usize,
    ) -> Result<Self, DrafterLoadError> {
        let count = |decoder: &Decoder| decoder.hyperparameters().vocabulary;
        let (needed, given) = (count(target), count(&draft));
        if needed != given {
            return Err(DrafterLoadError::OtherVocabulary {
                needed: format!("{needed} tokens"),
                given: format!("{given} tokens"),
            });
        }
        if let Some(page) = draft.options().page {
            return Err(DrafterLoadError::Option {
                option: "page",
                needed: "None for a draft model".to_owned(),
                given: page.to_string(),
            });
        }
        Ok(Self {
            script: gpu.storage("draft steps", MAX_TOKENS as u64 * StepBuffer::SIZE)?,
            decoder: draft,
            tokens: tokens.clamp(1, MAX_TOKENS),
            depth: 0,
            read: Vec::new(),
            ran: 0,
        })
    }

    /// Writes a part of the text to where the draft model reads it.
    fn write(&self, gpu: &Gpu, tokens: &[u32], past: u32) -> Result<(), DraftError> {
        if let [root, following @ ..] = tokens {
            let tree = DraftTree::chain(*root, following)?;
            let blob = tree.blob(self.decoder.max_nodes() as usize)?;
            gpu.queue()
                .write_buffer(self.decoder.tree(), 0, bytemuck::cast_slice(&blob));
        }
        self.decoder.step().set_rows(gpu, tokens.len() as u32);
        self.decoder.step().set_past(gpu, past);
        Ok(())
    }

    /// Records a pass that ends in the likeliest token after its last row.
    fn encode(&self, encoder: &mut CommandEncoder, rows: u32, past: u32) {
        let kind = StepKind::LastPrompt;
        let mut pass = encoder.begin_compute_pass(&Default::default());
        self.decoder
            .encode_logits(&mut pass, rows, past + rows, kind);
        self.decoder.encode_greedy(&mut pass, rows, kind);
    }
}

impl Drafter for ModelDrafter {
    fn name(&self) -> &str {
        "model"
    }

    fn limits(&self) -> DraftLimits {
        DraftLimits::new(self.tokens + 1, self.tokens, false, DraftCost::PerLevel)
    }

    fn draft(&mut self, context: &DraftContext<'_>) -> Result<Drafted, DraftError> {
        let root = context.root()?;
        // Its own context may be shorter.
        let room = self.decoder.options().context as usize;
        let room = (room + 1).saturating_sub(context.committed.len());
        let depth = self
            .tokens
            .min(context.max_depth)
            .min(context.max_nodes - 1);
        self.depth = depth.min(room);
        if context.draws > 0 {
            self.depth = self.depth.min(context.draws);
        }
        let mut tree = DraftTree::chain(root, &vec![0; self.depth])?;
        if context.draws > 0 {
            tree = tree.with_draw(DrawKind::Iid)?;
        }
        Ok(match self.depth {
            0 => Drafted::OnHost(tree),
            _ => Drafted::OnGpu(tree),
        })
    }

    fn record(&mut self, recording: &mut Recording<'_>) -> Result<(), DraftError> {
        let tokens = recording.tokens;
        if !recording.drafting || tokens.is_empty() {
            return Ok(());
        }
        let gpu = recording.gpu;
        let common = (self.read.iter().zip(tokens)).take_while(|(a, b)| a == b);
        // The last token is read again if it was: the next one is wanted.
        let mut past = common.count().min(tokens.len() - 1);
        let rows = self.decoder.options().prompt_rows as usize;
        while tokens.len() - past > rows {
            // Long texts are read in submissions of their own, which run before the step's.
            let chunk = &tokens[past..past + rows];
            self.write(gpu, chunk, past as u32)?;
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                let (rows, keys) = (rows as u32, (past + rows) as u32);
                self.decoder
                    .encode_logits(&mut pass, rows, keys, StepKind::Prompt);
            }
            gpu.queue().submit([encoder.finish()]);
            past += rows;
        }
        let rest = &tokens[past..];
        self.write(gpu, rest, past as u32)?;
        let script: Vec<[u32; 4]> = (0..self.depth as u32)
            .map(|i| [1, tokens.len() as u32 + i, 0, 0])
            .collect();
        gpu.queue()
            .write_buffer(&self.script, 0, bytemuck::cast_slice(script.as_flattened()));
        let encoder = &mut *recording.encoder;
        self.encode(encoder, rest.len() as u32, past as u32);
        // Where an outcome has its first token.
        let at = u64::from(2 + self.decoder.max_nodes()) * 4;
        let (own, step) = (self.decoder.tree(), self.decoder.step().buffer());
        for i in 0..self.depth {
            let node = (i as u64 + 1) * 4;
            let tree = recording.decoder.tree();
            match recording.drawing {
                Some(drawing) => drawing.encode(encoder, i, self.decoder.logits()),
                None => {
                    let chosen = self.decoder.outcome();
                    encoder.copy_buffer_to_buffer(chosen, at, tree, node, 4);
                }
            }
            if i + 1 < self.depth {
                encoder.copy_buffer_to_buffer(tree, node, own, 0, 4);
                let size = StepBuffer::SIZE;
                encoder.copy_buffer_to_buffer(&self.script, i as u64 * size, step, 0, size);
                self.encode(encoder, 1, (tokens.len() + i) as u32);
            }
        }
        self.read.clear();
        self.read.extend_from_slice(tokens);
        self.ran = self.depth - 1;
        Ok(())
    }

    fn observe(&mut self, outcome: &Outcome<'_>) {
        let kept = outcome.accepted.iter().take(self.ran);
        self.read.extend(kept);
        self.ran = 0;
    }

    fn reset(&mut self) {
        self.read.clear();
        self.ran = 0;
    }
}
