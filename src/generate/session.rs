//! A decoder with a drafter and the tokens of one sequence.

use std::sync::Arc;

use super::{
    CancelHandle, GenerateError, Grammar, TokenChoice,
    grammar::Constraint,
    sampler::{Sampler, SamplerNeeds},
    step::{Drafting, StepResult},
};
use crate::{
    draft::{DraftError, Drafter, Drawing, Features},
    gpu::{Gpu, ReadBack},
    model::{Decoder, Paging, StepKind},
    tree::DraftTree,
    verify::Outcome,
};

/// A decoder with a drafter and the tokens of one sequence.
pub struct Session {
    pub(super) gpu: Gpu,
    pub(super) decoder: Decoder,
    pub(super) drafter: Box<dyn Drafter>,
    /// Prompt and output; the last token is not in the cache yet.
    pub(super) committed: Vec<u32>,
    /// Keys in the cache: one fewer than committed tokens, or none.
    pub(super) past: u32,
    /// Tokens that a context shift dropped: the text's positions are this much further on.
    pub(super) dropped: u32,
    pub(super) paging: Option<Paging>,
    pub(super) outcome: ReadBack,
    /// Where trees that the GPU drafted are read, once there is one.
    pub(super) tree: Option<ReadBack>,
    pub(super) choice: TokenChoice,
    pub(super) sampler: Option<Sampler>,
    /// Where drafts are drawn by chance, once they are to be.
    pub(super) drawing: Option<Arc<Drawing>>,
    pub(super) grammar: Option<Arc<dyn Grammar>>,
    /// Of the answer under way.
    pub(super) constraint: Option<Constraint>,
    /// Rows of the last pass whose tokens were kept, the last ones in the cache: their features can be read.
    pub(super) kept: Vec<u32>,
    pub(super) reads_drafts: bool,
}

impl Session {
    /// A session without a prompt, which decodes greedily.
    pub fn new(gpu: &Gpu, decoder: Decoder, drafter: Box<dyn Drafter>) -> Self {
        let bytes = Outcome::words(decoder.max_nodes()) as u64 * 4;
        Self {
            gpu: gpu.clone(),
            outcome: ReadBack::new(gpu, "outcome", bytes),
            paging: decoder.paging(),
            tree: None,
            decoder,
            drafter,
            committed: Vec::new(),
            past: 0,
            dropped: 0,
            choice: TokenChoice::default(),
            sampler: None,
            drawing: None,
            grammar: None,
            constraint: None,
            kept: Vec::new(),
            reads_drafts: false,
        }
    }

    /// The decoder.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The decoder, given back.
    pub fn into_decoder(self) -> Decoder {
        self.decoder
    }

    /// The drafter's name.
    pub fn drafter(&self) -> &str {
        self.drafter.name()
    }

    /// What the drafter decided and why, where it decides anything: [`draft::Auto`](crate::draft::Auto) does.
    pub fn explain(&self) -> Option<String> {
        self.drafter.explain()
    }

    /// Prompt and output so far, as far as they are in the context.
    pub fn tokens(&self) -> &[u32] {
        &self.committed
    }

    /// Tokens that still fit the context.
    pub fn room(&self) -> u32 {
        self.decoder.options().context - self.past
    }

    /// How tokens are chosen.
    pub fn choice(&self) -> &TokenChoice {
        &self.choice
    }

    /// Says how tokens are chosen from now on. Compiles the kernels of sampling when they are first needed.
    ///
    /// # Errors
    /// [`GenerateError::Choice`] for numbers out of range, [`GenerateError::Verify`] and the device's errors;
    /// the choice stays as it was.
    pub async fn set_choice(&mut self, choice: TokenChoice) -> Result<(), GenerateError> {
        choice.check()?;
        self.prepare(&choice, self.grammar.is_some()).await?;
        self.choice = choice;
        Ok(())
    }

    /// Restricts answers to `grammar` from the next prompt on: each answer is one text of it. Compiles the kernels of
    /// sampling when they are first needed.
    ///
    /// # Errors
    /// [`GenerateError::Verify`] and the device's errors; the grammar stays as it was.
    pub async fn set_grammar(
        &mut self,
        grammar: Option<Arc<dyn Grammar>>,
    ) -> Result<(), GenerateError> {
        let choice = self.choice;
        self.prepare(&choice, grammar.is_some()).await?;
        self.grammar = grammar;
        Ok(())
    }

    /// Compiles and binds what `choice` needs, with or without a grammar, and is not there yet.
    async fn prepare(&mut self, choice: &TokenChoice, grammar: bool) -> Result<(), GenerateError> {
        let bound = self.sampler.as_ref().map(Sampler::needs);
        let needs = SamplerNeeds {
            penalties: choice.has_penalty() || bound.is_some_and(|bound| bound.penalties),
            grammar: grammar || bound.is_some_and(|bound| bound.grammar),
            drawn: choice.draws().is_some() || bound.is_some_and(|bound| bound.drawn),
            // Lists take time in every step: those of an earlier choice are given up.
            top: choice.top(),
        };
        let missing = bound.is_none_or(|bound| !bound.cover(needs));
        if (grammar || !choice.is_plain_argmax()) && missing {
            if needs.drawn && self.drawing.is_none() && self.decoder.options().max_draft > 0 {
                let drawing = Drawing::new(&self.gpu, &self.decoder).await;
                self.drawing = Some(Arc::new(drawing.map_err(DraftError::from)?));
            }
            let (gpu, drawing) = (&self.gpu, self.drawing.as_deref());
            self.sampler = Some(Sampler::new(gpu, &self.decoder, needs, drawing).await?);
        }
        Ok(())
    }

    /// Where the next draft may be drawn by chance, if it may.
    pub(super) fn draws(&self) -> Option<&Arc<Drawing>> {
        // A grammar would cut what is drawn, and change its law.
        let free = self.constraint.is_none() && self.choice.draws().is_some();
        self.drawing.as_ref().filter(|_| free)
    }

    /// Forgets the sequence: the next prompt starts at position 0.
    pub fn reset(&mut self) {
        self.committed.clear();
        self.constraint = None;
        self.dropped = 0;
        self.set_past(0);
        self.drafter.reset();
    }

    /// Goes back to the first `tokens` tokens of the sequence, of which at least one stays pending
    /// for the next step; does nothing where there are no more than that.
    pub fn rewind(&mut self, tokens: usize) {
        let tokens = tokens.max(1);
        if tokens < self.committed.len() {
            if let Some(constraint) = &mut self.constraint {
                constraint.take_back(self.committed.len() - tokens);
            }
            self.committed.truncate(tokens);
            self.set_past(self.past.min(tokens as u32 - 1));
        }
    }

    /// Forgets the keys from `past` on.
    pub(super) fn set_past(&mut self, past: u32) {
        let kept = past.saturating_sub(Features::before(self.past, &self.kept).position);
        self.kept.truncate(kept as usize);
        self.past = past;
        if let Some(paging) = &mut self.paging {
            // It fails for a sequence that was freed only, and this one never is.
            let _ = paging.truncate(past);
        }
        if let Some(sampler) = &mut self.sampler {
            sampler.forget();
        }
    }

    /// Exchanges the drafter, and gives back the one there was; the sequence goes on.
    pub fn set_drafter(&mut self, drafter: Box<dyn Drafter>) -> Box<dyn Drafter> {
        std::mem::replace(&mut self.drafter, drafter)
    }

    /// Whether drafts whose tokens a drafter wrote on the GPU are read back, which takes a moment in each step; without it
    /// [`Step::draft`](super::Step::draft) has those that were kept.
    pub fn set_reads_drafts(&mut self, reads: bool) {
        self.reads_drafts = reads;
    }

    /// Computes the keys and values of `prompt` after what the session holds, and returns the
    /// first token of the answer. `progress` is called with tokens read and tokens in all.
    ///
    /// # Errors
    /// [`GenerateError::EmptyPrompt`], [`GenerateError::UnknownToken`] and
    /// [`GenerateError::PromptTooLong`] before anything is computed; the device's errors. The sequence stays as it
    /// was.
    pub async fn read_prompt(
        &mut self,
        prompt: &[u32],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<u32, GenerateError> {
        let never = CancelHandle::default();
        let first = self.read_prompt_until(prompt, progress, &never).await?;
        // It was not cancelled, so there is a token.
        let first = first.ok_or(GenerateError::EmptyPrompt)?;
        first
            .tokens
            .last()
            .copied()
            .ok_or(GenerateError::EmptyPrompt)
    }

    /// As [`read_prompt`](Self::read_prompt), and `None` when it was cancelled: the sequence is as it was then.
    pub(super) async fn read_prompt_until(
        &mut self,
        prompt: &[u32],
        progress: &mut dyn FnMut(usize, usize),
        cancel: &CancelHandle,
    ) -> Result<Option<StepResult>, GenerateError> {
        self.check_prompt(prompt)?;
        let before = (self.committed.len(), self.past);
        let constraint = self.begin_constraint()?;
        let constraint = std::mem::replace(&mut self.constraint, constraint);
        self.committed.extend_from_slice(prompt);
        let read = self.read_pending(true, progress, cancel).await;
        match &read {
            Ok(Some(first)) => self.committed.extend_from_slice(&first.tokens),
            _ => {
                self.committed.truncate(before.0);
                self.set_past(before.1);
                self.constraint = constraint;
            }
        }
        read
    }

    /// Computes the keys and values of the committed tokens that have none, in steps of a prompt: of all
    /// of them, with the token after them, or of all but the last one.
    pub(super) async fn read_pending(
        &mut self,
        with_next: bool,
        progress: &mut dyn FnMut(usize, usize),
        cancel: &CancelHandle,
    ) -> Result<Option<StepResult>, GenerateError> {
        let end = self.committed.len() - usize::from(!with_next);
        let pending = self.committed[self.past as usize..end].to_vec();
        let rows = self.decoder.options().prompt_rows as usize;
        let mut read = 0;
        let mut result = None;
        for chunk in pending.chunks(rows) {
            let [root, following @ ..] = chunk else {
                continue;
            };
            if cancel.is_cancelled() {
                return Ok(None);
            }
            let tree = DraftTree::chain(*root, following)?;
            let last = read + chunk.len() == pending.len();
            let (kind, masks) = match last && with_next {
                true => (StepKind::LastPrompt, self.masks_of_root()?),
                false => (StepKind::Prompt, None),
            };
            let masks = masks.as_deref();
            let given = self.submit(&tree, kind, Drafting::Nothing, masks).await?;
            if let Some(constraint) = &mut self.constraint {
                constraint.advance(&given.tokens)?;
            }
            result = Some(given);
            self.past += chunk.len() as u32;
            self.kept = (0..chunk.len() as u32).collect();
            read += chunk.len();
            progress(read, pending.len());
        }
        Ok(result)
    }

    fn check_prompt(&self, prompt: &[u32]) -> Result<(), GenerateError> {
        let h = self.decoder.hyperparameters();
        if prompt.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        let vocabulary = h.vocabulary;
        let unknown = prompt.iter().position(|token| *token >= vocabulary);
        if let Some(position) = unknown {
            return Err(GenerateError::UnknownToken {
                token: prompt[position],
                position,
                vocabulary,
            });
        }
        let pending = self.committed.len() - self.past as usize;
        let room = self.room().saturating_sub(pending as u32);
        if prompt.len() > room as usize {
            return Err(GenerateError::PromptTooLong {
                prompt: prompt.len(),
                context: self.decoder.options().context,
                room,
                trained: h.context_length,
            });
        }
        Ok(())
    }
}
