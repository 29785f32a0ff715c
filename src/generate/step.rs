//! The loop of draft, verify and commit, a step at a time.

use web_time::{Duration, Instant};

use super::{GenerateError, Session};
use crate::{
    draft::{self, DraftContext, Drafted, Features, Recording},
    model::StepKind,
    tree::{DraftTree, DrawKind, TreeError},
    verify::{Outcome, TopToken, Verdict},
};

/// What one step gave.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// New tokens: accepted draft tokens, then the bonus token.
    pub tokens: Vec<u32>,
    /// Draft tokens that were checked.
    pub drafted: usize,
    /// Drafted tokens that one path could have kept at most.
    pub depth: usize,
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
    /// The draft that was checked. Where the drafter wrote its tokens on the GPU the host never saw them: then it has
    /// those that were kept, and [`Step::NOT_READ`] for the others, unless
    /// [`Session::set_reads_drafts`] asks for them. One that grew there is read back.
    pub draft: DraftTree,
    /// Nodes of `draft` that were kept, in order, the root included.
    pub path: Vec<u32>,
}

impl Step {
    /// Stands in [`Step::draft`] for a token that stayed on the GPU.
    pub const NOT_READ: u32 = u32::MAX;
}

/// How likely a token was: natural logarithms.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LogProbabilities {
    /// Under the softmax of the model's logits as they are.
    pub raw: f32,
    /// Under the distribution that was sampled from: after penalties, grammar, temperature and cuts.
    pub processed: f32,
    /// The likeliest tokens in its place by the raw logits, as many as
    /// [`TokenChoice::log_probabilities`](super::TokenChoice::log_probabilities) asks for.
    pub top: Vec<TopToken>,
}

impl LogProbabilities {
    /// Of each token of `verdict`.
    pub(super) fn of(verdict: &Verdict) -> Vec<Self> {
        let both = verdict.raw_log_probabilities.iter();
        let both = both.zip(&verdict.log_probabilities).enumerate();
        both.map(|(i, (&raw, &processed))| Self {
            raw,
            processed,
            top: verdict.top.get(i).cloned().unwrap_or_default(),
        })
        .collect()
    }
}

/// What the drafter does in a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drafting {
    /// It follows the sequence; the tree's tokens come from the host.
    Nothing,
    /// It drafts the tree's tokens.
    Draft,
    /// It drafts the whole tree.
    Grow,
    /// Nothing: it did its part in a submission before.
    Done,
}

/// What a submission gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct StepResult {
    pub path: Vec<u32>,
    pub tokens: Vec<u32>,
    pub log_probabilities: Vec<LogProbabilities>,
    /// The tree, where it was read back: one that grew on the GPU always is.
    pub read: Option<DraftTree>,
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
            branches: !self.choice.rule.is_for_chains(),
            features: Features::before(self.past, &self.kept),
            draws: self.draws().map_or(0, |drawing| drawing.depth()),
            ..DraftContext::new(
                &self.committed,
                max_draft + 1,
                max_draft.min(max_tokens.saturating_sub(1)),
            )
        };
        let start = Instant::now();
        let drafted = self.drafter.draft(&context)?;
        let restricted = self.restrict(&drafted).await?;
        let draft_time = start.elapsed();
        let (tree, drafting, masks) = match (restricted, &drafted) {
            (None, Drafted::OnHost(_)) => (drafted.tree().clone(), Drafting::Nothing, None),
            (None, Drafted::OnGpu(_)) => (drafted.tree().clone(), Drafting::Draft, None),
            (None, Drafted::Grown(_)) => (drafted.tree().clone(), Drafting::Grow, None),
            (Some(it), Drafted::OnHost(_)) => (it.tree, Drafting::Nothing, Some(it.masks)),
            (Some(it), _) => (it.tree, Drafting::Done, Some(it.masks)),
        };
        let kind = match drafting != Drafting::Grow && tree.is_chain() {
            true => StepKind::Chain,
            false => StepKind::Tree,
        };
        let result = self.submit(&tree, kind, drafting, masks.as_deref()).await?;
        if let Some(constraint) = &mut self.constraint {
            constraint.advance(&result.tokens)?;
        }
        // One that grew on the GPU is known only now.
        let is_read = result.read.is_some();
        let tree = result.read.unwrap_or(tree);
        self.kept.clone_from(&result.path);
        self.past += result.path.len() as u32;
        self.committed.extend_from_slice(&result.tokens);
        let accepted = result.path.len() - 1;
        let outcome = draft::Outcome::new(&tree, &result.tokens[..accepted]);
        let outcome = outcome.with_path(&result.path);
        self.drafter.observe(&outcome.with_time(start.elapsed()));
        let depth = tree.max_depth() as usize;
        let draft = match drafting {
            Drafting::Draft if !is_read => {
                as_kept(&tree, &result.path, &result.tokens[..accepted])?
            }
            _ => tree,
        };
        Ok(Step {
            drafted: draft.drafted(),
            depth,
            draft,
            path: result.path,
            tokens: result.tokens,
            accepted,
            log_probabilities: result.log_probabilities,
            draft_time,
            verify_time: start.elapsed() - draft_time,
        })
    }

    /// Says which tree the next submission works on.
    pub(super) fn write_tree(&self, tree: &DraftTree) -> Result<(), GenerateError> {
        let blob = tree.blob(self.decoder.max_nodes() as usize)?;
        let queue = self.gpu.queue();
        queue.write_buffer(self.decoder.tree(), 0, bytemuck::cast_slice(&blob));
        self.decoder.step().set_rows(&self.gpu, tree.len() as u32);
        // The GPU moves `past` on by itself; the host's copy matters after a reset or an error.
        self.decoder.step().set_past(&self.gpu, self.past);
        Ok(())
    }

    /// One submission and one read-back. `masks` are those of a grammar, `[node, word]`; after a prompt, of its
    /// last token alone.
    pub(super) async fn submit(
        &mut self,
        tree: &DraftTree,
        kind: StepKind,
        drafting: Drafting,
        masks: Option<&[u32]>,
    ) -> Result<StepResult, GenerateError> {
        let plain = self.choice.is_plain_argmax() && masks.is_none();
        let samples = !plain && kind != StepKind::Prompt;
        if samples {
            let drawn = tree.draw() != DrawKind::TopK;
            self.choice.rule.check(tree, drawn)?;
        }
        let max_nodes = self.decoder.max_nodes();
        let rows = tree.len() as u32;
        if let Some(paging) = &mut self.paging {
            paging.reserve(&self.gpu, self.decoder.cache(), rows)?;
        }
        (self.decoder.ready(rows, self.past + rows, kind)).await?;
        self.write_tree(tree)?;
        let after_prompt = kind == StepKind::LastPrompt;
        // The greedy rule on the logits as they are needs no more than the argmax.
        let sampler = self.sampler.as_mut().filter(|_| samples);
        if let Some(sampler) = sampler {
            // The last row of a prompt is a root of its own.
            let ahead = if after_prompt { rows - 1 } else { 0 };
            let position = self.dropped + self.past + ahead;
            let (choice, draw, committed) = (&self.choice, tree.draw(), &self.committed);
            sampler.set_step(choice, draw, after_prompt, committed, position, masks)?;
            sampler.ready(after_prompt).await?;
        }
        let sampler = self.sampler.as_ref().filter(|_| samples);
        let drawn = drafting == Drafting::Draft && tree.draw() != DrawKind::TopK;
        let drawing = self.draws().filter(|_| drawn).cloned();
        if let (Some(drawing), Some(sampling)) = (&drawing, self.choice.draws()) {
            drawing.set(&self.gpu, self.dropped + self.past, sampling)?;
        }
        let mut encoder = self
            .gpu
            .device()
            .create_command_encoder(&Default::default());
        let mut layers_done = 0;
        if drafting != Drafting::Done {
            let mut recording = Recording {
                gpu: &self.gpu,
                encoder: &mut encoder,
                tokens: &self.committed,
                features: Features::before(self.past, &self.kept),
                decoder: &self.decoder,
                layers_done,
                drawing: drawing.as_deref(),
                drafting: matches!(drafting, Drafting::Draft | Drafting::Grow),
            };
            self.drafter.record(&mut recording)?;
            layers_done = recording.layers_done;
        }
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
        let read = drafting == Drafting::Grow || drafting == Drafting::Draft && self.reads_drafts;
        if read {
            self.encode_tree(&mut encoder);
        }
        self.gpu.queue().submit([encoder.finish()]);
        let sampler = self.sampler.as_ref().filter(|_| samples);
        let mut result = match sampler {
            Some(sampler) => {
                let verdict = sampler.read(after_prompt).await?;
                StepResult {
                    log_probabilities: match self.choice.log_probabilities {
                        Some(_) => LogProbabilities::of(&verdict),
                        None => Vec::new(),
                    },
                    path: verdict.path,
                    tokens: verdict.tokens,
                    read: None,
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
                            ..Default::default()
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
        if read {
            result.read = Some(self.read_tree(tree.draw()).await?);
        }
        Ok(result)
    }
}

/// `tree`, whose drafted tokens are placeholders, with what is known of them: the tokens `accepted` of the nodes of
/// `path` below the root.
fn as_kept(tree: &DraftTree, path: &[u32], accepted: &[u32]) -> Result<DraftTree, TreeError> {
    let mut tokens = vec![Step::NOT_READ; tree.len()];
    tokens[0] = tree.tokens()[0];
    for (node, token) in path.iter().skip(1).zip(accepted) {
        if let Some(place) = tokens.get_mut(*node as usize) {
            *place = *token;
        }
    }
    // Siblings that are not known look alike: no claim is made that they differ.
    DraftTree::from_parents(tokens, tree.parents().to_vec(), DrawKind::Iid)
}
