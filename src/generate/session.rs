//! The loop of draft, verify and commit, a step at a time.

use crate::{
    draft::{self, DraftContext, Drafted, Drafter},
    generate::GenerateError,
    gpu::{Gpu, ReadBack},
    model::{Decoder, Paging, StepKind},
    tree::DraftTree,
    verify::Outcome,
};

/// A decoder with a drafter and the tokens of one sequence.
pub struct Session {
    gpu: Gpu,
    decoder: Decoder,
    drafter: Box<dyn Drafter>,
    committed: Vec<u32>, // prompt and output; the last token is not in the cache yet
    past: u32,           // keys in the cache
    paging: Option<Paging>,
    outcome: ReadBack,
    last_draft: Option<(DraftTree, Vec<u32>)>,
}

/// What one step gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// New tokens: accepted draft tokens, then the bonus token.
    pub tokens: Vec<u32>,
    /// Draft tokens that were checked.
    pub drafted: usize,
    /// Draft tokens that were kept: one fewer than `tokens`.
    pub accepted: usize,
}

impl Session {
    /// A session without a prompt.
    pub fn new(gpu: &Gpu, decoder: Decoder, drafter: Box<dyn Drafter>) -> Self {
        let bytes = Outcome::words(decoder.max_nodes()) as u64 * 4;
        Self {
            gpu: gpu.clone(),
            outcome: ReadBack::new(gpu, "outcome", bytes),
            paging: decoder.paging(),
            decoder,
            drafter,
            committed: Vec::new(),
            past: 0,
            last_draft: None,
        }
    }

    /// The tree that the last step verified, and the nodes of it that were kept, the root first: for
    /// drawings of what a drafter does.
    pub fn last_draft(&self) -> Option<(&DraftTree, &[u32])> {
        let (tree, path) = self.last_draft.as_ref()?;
        Some((tree, path))
    }

    /// The decoder.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The drafter's name.
    pub fn drafter(&self) -> &str {
        self.drafter.name()
    }

    /// Prompt and output so far.
    pub fn tokens(&self) -> &[u32] {
        &self.committed
    }

    /// Tokens that still fit the context.
    pub fn room(&self) -> u32 {
        self.decoder.options().context - self.past
    }

    /// Forgets the sequence: the next prompt starts at position 0.
    pub fn reset(&mut self) {
        self.committed.clear();
        self.last_draft = None;
        self.set_past(0);
        self.drafter.reset();
    }

    /// Goes back to the first `tokens` tokens of the sequence, of which at least one stays pending
    /// for the next step; does nothing where there are no more than that.
    pub fn rewind(&mut self, tokens: usize) {
        let tokens = tokens.max(1);
        if tokens < self.committed.len() {
            self.committed.truncate(tokens);
            self.set_past(self.past.min(tokens as u32 - 1));
        }
    }

    /// Forgets the keys from `past` on.
    fn set_past(&mut self, past: u32) {
        self.past = past;
        if let Some(paging) = &mut self.paging {
            // It fails for a sequence that was freed only, and this one never is.
            let _ = paging.truncate(past);
        }
    }

    /// Exchanges the drafter; the sequence goes on.
    pub fn set_drafter(&mut self, drafter: Box<dyn Drafter>) {
        self.drafter = drafter;
    }

    /// Computes the keys and values of `prompt` after what the session holds, and returns the
    /// first token of the answer. `progress` is called with tokens read and tokens in all.
    ///
    /// # Errors
    /// [`GenerateError::EmptyPrompt`], [`GenerateError::UnknownToken`] and
    /// [`GenerateError::PromptTooLong`] before anything is computed; the device's errors.
    pub async fn read_prompt(
        &mut self,
        prompt: &[u32],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<u32, GenerateError> {
        self.check_prompt(prompt)?;
        // The last token of an earlier answer is not in the cache yet: it goes first.
        let pending = self.committed.len() - self.past as usize;
        self.committed.extend_from_slice(prompt);
        let start = self.committed.len() - prompt.len() - pending;
        let rest = self.committed[start..].to_vec();
        let rows = self.decoder.options().prompt_rows as usize;
        let mut read = 0;
        for chunk in rest.chunks(rows) {
            let [root, following @ ..] = chunk else {
                continue;
            };
            let tree = DraftTree::chain(*root, following)?;
            let last = read + chunk.len() == rest.len();
            let kind = if last {
                StepKind::LastPrompt
            } else {
                StepKind::Prompt
            };
            let outcome = self.submit(&tree, kind).await?;
            self.past += chunk.len() as u32;
            read += chunk.len();
            progress(read, rest.len());
            if let (true, Some(token)) = (last, outcome.tokens.last()) {
                self.committed.push(*token);
                return Ok(*token);
            }
        }
        Err(GenerateError::EmptyPrompt)
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

    /// Drafts, verifies and commits once. At most `max_tokens` tokens are wanted, so no more are
    /// drafted than could be kept.
    ///
    /// # Errors
    /// [`GenerateError::NoPrompt`] before a prompt, [`GenerateError::ContextFull`] when not even
    /// one more token fits; the drafter's and the device's errors. The sequence stays as it was.
    pub async fn step(&mut self, max_tokens: usize) -> Result<Step, GenerateError> {
        if self.committed.is_empty() {
            return Err(GenerateError::NoPrompt);
        }
        let options = self.decoder.options();
        let Some(room) = self.room().checked_sub(1) else {
            return Err(GenerateError::ContextFull {
                context: options.context,
            });
        };
        let max_draft = options.max_draft.min(room) as usize;
        let context = DraftContext::new(
            &self.committed,
            max_draft + 1,
            max_draft.min(max_tokens.saturating_sub(1)),
        );
        let tree = match self.drafter.draft(&context)? {
            Drafted::OnHost(tree) => tree,
            #[allow(unreachable_patterns)] // more kinds will come
            _ => {
                return Err(GenerateError::DraftPlace {
                    drafter: self.drafter.name().to_owned(),
                });
            }
        };
        let kind = match tree.is_chain() {
            true => StepKind::Chain,
            false => StepKind::Tree,
        };
        let outcome = self.submit(&tree, kind).await?;
        self.past += outcome.path.len() as u32;
        self.committed.extend_from_slice(&outcome.tokens);
        let accepted = outcome.path.len() - 1;
        self.drafter
            .observe(&draft::Outcome::new(&tree, &outcome.tokens[..accepted]));
        let drafted = tree.drafted();
        self.last_draft = Some((tree, outcome.path));
        Ok(Step {
            tokens: outcome.tokens,
            drafted,
            accepted,
        })
    }

    /// One submission and one read-back.
    async fn submit(&mut self, tree: &DraftTree, kind: StepKind) -> Result<Outcome, GenerateError> {
        let max_nodes = self.decoder.max_nodes();
        let rows = tree.len() as u32;
        let blob = tree.blob(max_nodes as usize)?;
        if let Some(paging) = &mut self.paging {
            paging.reserve(&self.gpu, self.decoder.cache(), rows)?;
        }
        let queue = self.gpu.queue();
        queue.write_buffer(self.decoder.tree(), 0, bytemuck::cast_slice(&blob));
        self.decoder.step().set_rows(&self.gpu, rows);
        // The GPU moves `past` on by itself; the host's copy matters after a reset or an error.
        self.decoder.step().set_past(&self.gpu, self.past);
        let mut encoder = self
            .gpu
            .device()
            .create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            self.decoder.encode(&mut pass, rows, self.past + rows, kind);
        }
        self.outcome.encode(&mut encoder, self.decoder.outcome(), 0);
        queue.submit([encoder.finish()]);
        let bytes = self.outcome.read(&self.gpu).await?;
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes);
        if let (Some(paging), StepKind::Prompt | StepKind::LastPrompt) = (&mut self.paging, kind) {
            paging.commit(rows)?;
        }
        if kind == StepKind::Prompt {
            // Nothing was verified: the outcome is that of an earlier step.
            return Ok(Outcome {
                path: Vec::new(),
                tokens: Vec::new(),
            });
        }
        let outcome = Outcome::from_words(&words, max_nodes)?;
        if let (Some(paging), StepKind::Chain | StepKind::Tree) = (&mut self.paging, kind) {
            paging.commit_path(&outcome.path)?;
        }
        Ok(outcome)
    }
}
