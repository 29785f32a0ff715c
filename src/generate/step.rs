//! The loop of draft, verify and commit, a step at a time.

use web_time::{Duration, Instant};

use super::{GenerateError, Session};
use crate::{
    draft::{self, DraftContext, Drafted, Features, Recording},
    model::StepKind,
    tree::DraftTree,
    verify::Outcome,
};

/// What one step gave.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// New tokens: accepted draft tokens, then the bonus token.
    pub tokens: Vec<u32>,
    /// Draft tokens that were checked.
    pub drafted: usize,
    /// Draft tokens that were kept: one fewer than `tokens`.
    pub accepted: usize,
    /// Of each of `tokens`, where [`TokenChoice::log_probabilities`](super::TokenChoice::log_probabilities)
    /// asks for them.
    pub log_probabilities: Vec<LogProbabilities>,
    /// Time of the drafter on the host.
    pub draft_time: Duration,
    /// Time from the submission until the verdict was read: the target model, verification and commit, and
    /// what a drafter does on the GPU.
    pub verify_time: Duration,
}

/// How likely a token was: natural logarithms.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LogProbabilities {
    /// Under the softmax of the model's logits as they are.
    pub raw: f32,
    /// Under the distribution that was sampled from: after penalties, grammar, temperature and cuts.
    pub processed: f32,
}

/// What a submission gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct StepResult {
    pub path: Vec<u32>,
    pub tokens: Vec<u32>,
    pub log_probabilities: Vec<LogProbabilities>,
}

impl Session {
    /// Drafts, verifies and commits once. At most `max_tokens` tokens are wanted, so no more are
    /// drafted than could be kept.
    ///
    /// # Errors
    /// [`GenerateError::NoPrompt`] before a prompt, [`GenerateError::ContextFull`] when not even
    /// one more token fits; [`GenerateError::Choice`] when the rule does not fit the draft; the drafter's and
    /// the device's errors. The sequence stays as it was.
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
        let context = DraftContext {
            features: Features::before(self.past, &self.kept),
            ..DraftContext::new(
                &self.committed,
                max_draft + 1,
                max_draft.min(max_tokens.saturating_sub(1)),
            )
        };
        let start = Instant::now();
        let drafted = self.drafter.draft(&context)?;
        let draft_time = start.elapsed();
        let tree = drafted.tree();
        let kind = match (&drafted, tree.is_chain()) {
            (Drafted::OnHost(_) | Drafted::OnGpu(_), true) => StepKind::Chain,
            _ => StepKind::Tree,
        };
        let on_gpu = !matches!(drafted, Drafted::OnHost(_));
        let result = self.submit(tree, kind, on_gpu).await?;
        self.kept.clone_from(&result.path);
        self.past += result.path.len() as u32;
        self.committed.extend_from_slice(&result.tokens);
        let accepted = result.path.len() - 1;
        self.drafter
            .observe(&draft::Outcome::of(&drafted, &result.tokens[..accepted]));
        Ok(Step {
            tokens: result.tokens,
            drafted: tree.drafted(),
            accepted,
            log_probabilities: result.log_probabilities,
            draft_time,
            verify_time: start.elapsed() - draft_time,
        })
    }

    /// One submission and one read-back; `on_gpu` where the drafter writes the tree's drafted tokens on the GPU.
    pub(super) async fn submit(
        &mut self,
        tree: &DraftTree,
        kind: StepKind,
        on_gpu: bool,
    ) -> Result<StepResult, GenerateError> {
        let samples = !self.choice.is_plain_argmax() && kind != StepKind::Prompt;
        if samples {
            self.choice.rule.check(tree, false)?;
        }
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
        let after_prompt = kind == StepKind::LastPrompt;
        // The greedy rule on the logits as they are needs no more than the argmax.
        let sampler = self.sampler.as_mut().filter(|_| samples);
        if let Some(sampler) = sampler {
            // The last row of a prompt is a root of its own.
            let ahead = if after_prompt { rows - 1 } else { 0 };
            let position = self.dropped + self.past + ahead;
            sampler.set_step(
                &self.choice,
                tree.draw(),
                after_prompt,
                &self.committed,
                position,
            )?;
        }
        let sampler = self.sampler.as_ref().filter(|_| samples);
        let mut encoder = self
            .gpu
            .device()
            .create_command_encoder(&Default::default());
        let mut recording = Recording {
            gpu: &self.gpu,
            encoder: &mut encoder,
            tokens: &self.committed,
            features: Features::before(self.past, &self.kept),
            decoder: &self.decoder,
            layers_done: 0,
            drafting: on_gpu,
        };
        self.drafter.record(&mut recording)?;
        let layers_done = recording.layers_done;
        // An error from here on leaves no features to draft from.
        self.kept.clear();
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            let keys = self.past + rows;
            (self.decoder).encode_logits_from(&mut pass, layers_done, rows, keys, kind);
            match sampler {
                Some(sampler) => sampler.encode(&mut pass, after_prompt),
                None => {
                    self.decoder.encode_greedy(&mut pass, rows, kind);
                    self.decoder.encode_end(&mut pass, kind);
                }
            }
        }
        match sampler {
            Some(sampler) => {
                sampler.encode_verdict(&mut encoder, &self.decoder, after_prompt);
                let mut pass = encoder.begin_compute_pass(&Default::default());
                self.decoder.encode_end(&mut pass, kind);
            }
            None => self.outcome.encode(&mut encoder, self.decoder.outcome(), 0),
        }
        queue.submit([encoder.finish()]);
        let result = match sampler {
            Some(sampler) => {
                let verdict = sampler.read(after_prompt).await?;
                let both = verdict.raw_log_probabilities.iter();
                let both = both.zip(&verdict.log_probabilities);
                StepResult {
                    log_probabilities: match self.choice.log_probabilities {
                        Some(_) => both
                            .map(|(&raw, &processed)| LogProbabilities { raw, processed })
                            .collect(),
                        None => Vec::new(),
                    },
                    path: verdict.path,
                    tokens: verdict.tokens,
                }
            }
            None => {
                let bytes = self.outcome.read(&self.gpu).await?;
                let words: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes);
                match kind {
                    // Nothing was verified: the outcome is that of an earlier step.
                    StepKind::Prompt => StepResult::default(),
                    _ => {
                        let Outcome { path, tokens } = Outcome::from_words(&words, max_nodes)?;
                        StepResult {
                            path,
                            tokens,
                            log_probabilities: Vec::new(),
                        }
                    }
                }
            }
        };
        if let Some(paging) = &mut self.paging {
            match kind {
                StepKind::Prompt | StepKind::LastPrompt => paging.commit(rows)?,
                StepKind::Chain | StepKind::Tree => paging.commit_path(&result.path)?,
            }
        }
        Ok(result)
    }
}
