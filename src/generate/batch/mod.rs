//! Several answers at once.

mod answer;
mod verifier;

use super::{
    CancelHandle, Finish, GenerateError, GenerateOptions, LogProbabilities, Session, Statistics,
    Token, given::Given, step::StepResult,
};
use crate::{
    draft::{DraftContext, Drafted, Drafter, NoDrafter},
    gpu::Gpu,
    model::{BatchPaging, ChainRows, Decoder},
    tree::DraftTree,
};
use answer::{Answer, hand_out};
use verifier::{BatchVerifier, ChainCheck};
use web_time::{Duration, Instant};

/// Answers several prompts at once, each with its own sampling options, seed, grammar, drafter and end.
///
/// Answers join and leave between steps. A step decodes a token of each, or verifies a chain of drafts of each, in one
/// submission: the weights are read once for all of them. The text of each answer is that of a
/// [`Session`] alone, bit for bit: kernels give a row the same bits in any company.
///
/// The decoder has to be made for it, with [`DecoderOptions::sequences`](crate::model::DecoderOptions::sequences).
/// Drafters have to draft on the host, as n-gram look-up does; of their trees only chains are asked for. Prompts are read
/// one after the other when they join. An answer ends where its context is full: contexts are not shifted.
///
/// ```no_run
/// # use sunfleck::{draft::NoDrafter, generate::{Batch, GenerateError, GenerateOptions}, gpu::Gpu, model::Decoder};
/// # async fn example(gpu: &Gpu, decoder: Decoder, prompts: &[Vec<u32>]) -> Result<(), GenerateError> {
/// let mut batch = Batch::new(gpu, decoder).await?;
/// for prompt in prompts.iter().take(batch.room()) {
///     batch.join(prompt, GenerateOptions::default(), Box::new(NoDrafter)).await?;
/// }
/// while !batch.is_empty() {
///     for part in batch.step().await? {
///         println!("{:?}: {:?} {:?}", part.answer, part.tokens, part.finish);
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Batch {
    reader: Session, // reads prompts
    verifier: BatchVerifier,
    paging: Option<BatchPaging>,
    answers: Vec<Option<Answer>>, // [sequence]
    joined: u64,
    /// What answers were given that no step has handed out yet.
    ready: Vec<AnswerPart>,
}

/// An answer of a [`Batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnswerId(u64);

/// What a step gave one answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AnswerPart {
    /// The answer.
    pub answer: AnswerId,
    /// Its next tokens.
    pub tokens: Vec<Token>,
    /// Why it ended, if it did; it has left the batch then.
    pub finish: Option<Finish>,
    /// Counts and times so far. A step's time is counted for every answer in it.
    pub statistics: Statistics,
}

/// The chain that a step verifies for one answer.
struct Chain {
    sequence: usize,
    tree: DraftTree,
    masks: Option<Vec<u32>>,
}

impl Batch {
    /// An empty batch over `decoder`.
    ///
    /// # Errors
    /// [`GenerateError::NotABatch`] for a decoder made for one sequence, and the device's errors.
    pub async fn new(gpu: &Gpu, decoder: Decoder) -> Result<Self, GenerateError> {
        let batch = decoder.batch().ok_or(GenerateError::NotABatch)?;
        decoder.compiled().await?;
        let verifier =
            BatchVerifier::new(gpu, batch, decoder.hyperparameters().vocabulary, 0).await?;
        Ok(Self {
            answers: (0..batch.sequences()).map(|_| None).collect(),
            paging: BatchPaging::new(batch.cache())?,
            verifier,
            reader: Session::new(gpu, decoder, Box::new(NoDrafter)),
            joined: 0,
            ready: Vec::new(),
        })
    }

    /// The decoder.
    pub fn decoder(&self) -> &Decoder {
        self.reader.decoder()
    }

    /// Answers that may still join.
    pub fn room(&self) -> usize {
        self.answers
            .iter()
            .filter(|answer| answer.is_none())
            .count()
    }

    /// Whether no answer is under way, nor has a part that is yet to be handed out.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.answers.iter().all(Option::is_none)
    }

    /// Prompt and answer so far; `None` for an answer that has left.
    pub fn tokens(&self, answer: AnswerId) -> Option<&[u32]> {
        let mut answers = self.answers.iter().flatten();
        let found = answers.find(|there| there.id == answer);
        found.map(|answer| answer.committed.as_slice())
    }

    /// Reads `prompt`; its answer is part of the steps from now on.
    ///
    /// # Errors
    /// [`GenerateError::BatchFull`] where there is no [`room`](Self::room), and those of
    /// [`Session::set_choice`] and [`Session::read_prompt`]; the batch stays as it was.
    pub async fn join(
        &mut self,
        prompt: &[u32],
        options: GenerateOptions,
        mut drafter: Box<dyn Drafter>,
    ) -> Result<AnswerId, GenerateError> {
        self.free_pages()?;
        let sequences = self.answers.len() as u32;
        let free = self.answers.iter().position(Option::is_none);
        let sequence = free.ok_or(GenerateError::BatchFull { sequences })?;
        let start = Instant::now();
        let reader = &mut self.reader;
        reader.reset();
        reader.set_choice(options.choice).await?;
        reader.set_grammar(options.grammar.clone()).await?;
        let top = options.choice.top();
        if let Some(batch) = reader.decoder.batch().filter(|_| top > self.verifier.top()) {
            let vocabulary = reader.decoder.hyperparameters().vocabulary;
            self.verifier = BatchVerifier::new(&reader.gpu, batch, vocabulary, top).await?;
        }
        let never = CancelHandle::default();
        let read = reader
            .read_prompt_until(prompt, &mut |_, _| (), &never)
            .await?;
        let read = read.ok_or(GenerateError::EmptyPrompt)?;
        let past = prompt.len() as u32;
        let batch = reader.decoder.batch().ok_or(GenerateError::NotABatch)?;
        let (sequence, pages) = match &mut self.paging {
            Some(paging) => {
                let place = paging.join(&reader.gpu, batch.cache(), past)?;
                (place as usize, paging.pages(place))
            }
            None => (sequence, Vec::new()),
        };
        reader.copy_to_batch(sequence as u32, &pages);
        drafter.reset();
        self.joined += 1;
        let mut answer = Answer {
            id: AnswerId(self.joined),
            drafter,
            constraint: reader.constraint.take(),
            committed: prompt.to_vec(),
            past,
            statistics: Statistics {
                prompt_tokens: prompt.len(),
                prefill: start.elapsed(),
                ..Default::default()
            },
            first: None,
            options,
        };
        answer.first = Some(answer.take(read, 0, false));
        let id = answer.id;
        self.answers[sequence] = Some(answer);
        Ok(id)
    }

    /// Ends an answer; `false` where it had left before. What it has that no step has handed out is dropped.
    pub fn leave(&mut self, answer: AnswerId) -> bool {
        let waiting = self.ready.len();
        self.ready.retain(|part| part.answer != answer);
        let is_it = |there: &&mut Option<Answer>| there.as_ref().is_some_and(|a| a.id == answer);
        match self.answers.iter_mut().find(is_it) {
            Some(there) => there.take().is_some(),
            None => self.ready.len() < waiting,
        }
    }

    /// Decodes once for every answer; the first token of those that joined since the last step is handed out without.
    /// Answers that end leave.
    ///
    /// # Errors
    /// [`GenerateError::BatchDraft`] for a drafter that does not draft chains on the host; the drafters', the
    /// grammars' and the device's errors. Answers stay as they were then, unless a grammar failed: its answer
    /// should leave. What other answers were given is handed out by the next step.
    pub async fn step(&mut self) -> Result<Vec<AnswerPart>, GenerateError> {
        self.free_pages()?;
        for there in &mut self.answers {
            let Some(given) = there.as_mut().and_then(|answer| answer.first.take()) else {
                continue;
            };
            self.ready.extend(hand_out(there, given));
        }
        let context = self.decoder().options().context;
        for there in &mut self.answers {
            if there.as_ref().is_some_and(|answer| answer.past >= context) {
                let full = Given {
                    tokens: Vec::new(),
                    kept: 0,
                    finish: Some(Finish::ContextFull),
                };
                self.ready.extend(hand_out(there, full));
            }
        }
        let start = Instant::now();
        let chains = self.draft()?;
        let draft_time = start.elapsed();
        if !chains.is_empty() {
            self.reserve(&chains)?;
            let results = self.verify(&chains).await?;
            let verify_time = start.elapsed() - draft_time;
            self.keep(chains, results, [draft_time, verify_time])?;
        }
        Ok(std::mem::take(&mut self.ready))
    }

    /// Gives each answer what was decided about its chain.
    ///
    /// # Errors
    /// The first; the other answers get theirs all the same.
    fn keep(
        &mut self,
        chains: Vec<Chain>,
        results: Vec<StepResult>,
        times: [Duration; 2],
    ) -> Result<(), GenerateError> {
        let mut failed = None;
        for (chain, result) in chains.into_iter().zip(results) {
            let there = &mut self.answers[chain.sequence];
            let Some(answer) = there else { continue };
            let mut tokens = result.path.len() as u32;
            match answer.keep(&chain.tree, result, times) {
                Ok(given) => self.ready.extend(hand_out(there, given)),
                Err(error) => {
                    tokens = 0;
                    failed = failed.or(Some(error));
                }
            }
            if let Some(paging) = &mut self.paging {
                paging.commit(chain.sequence, tokens)?;
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Makes room for the rows of a step, where the cache has pages.
    fn reserve(&mut self, chains: &[Chain]) -> Result<(), GenerateError> {
        let reader = &self.reader;
        let batch = reader.decoder.batch().ok_or(GenerateError::NotABatch)?;
        if let Some(paging) = &mut self.paging {
            let rows = chains.iter();
            let rows = rows.map(|chain| (chain.sequence, chain.tree.len() as u32));
            paging.reserve(&reader.gpu, batch.cache(), rows)?;
        }
        Ok(())
    }

    /// Gives back the pages of answers that have left.
    fn free_pages(&mut self) -> Result<(), GenerateError> {
        if let Some(paging) = &mut self.paging {
            paging.keep(|place| self.answers.get(place).is_some_and(Option::is_some))?;
        }
        Ok(())
    }

    /// What every answer's drafter proposes.
    fn draft(&mut self) -> Result<Vec<Chain>, GenerateError> {
        let options = *self.reader.decoder().options();
        let mut chains = Vec::new();
        for (sequence, there) in self.answers.iter_mut().enumerate() {
            let Some(answer) = there else { continue };
            let room = (options.context - answer.past).saturating_sub(1);
            let max_draft = options.max_draft.min(room) as usize;
            let left = answer.options.max_tokens - answer.statistics.tokens;
            let max_depth = max_draft.min(left.saturating_sub(1));
            let context = DraftContext {
                branches: false,
                ..DraftContext::new(&answer.committed, max_draft + 1, max_depth)
            };
            let tree = match answer.drafter.draft(&context)? {
                Drafted::OnHost(tree) if tree.is_chain() => tree,
                _ => {
                    return Err(GenerateError::BatchDraft {
                        drafter: answer.drafter.name().to_owned(),
                    });
                }
            };
            let (tree, masks) = match &mut answer.constraint {
                Some(constraint) => {
                    let restricted = constraint.restrict(&tree)?;
                    (restricted.tree, Some(restricted.masks))
                }
                None => (tree, None),
            };
            answer.options.choice.rule.check(&tree, false)?;
            chains.push(Chain {
                sequence,
                tree,
                masks,
            });
        }
        Ok(chains)
    }

    /// One submission, and one read-back.
    async fn verify(&mut self, chains: &[Chain]) -> Result<Vec<StepResult>, GenerateError> {
        let decoder = self.reader.decoder.batch();
        let decoder = decoder.ok_or(GenerateError::NotABatch)?;
        let mut rows = Vec::new();
        let mut checks = Vec::new();
        let mut keys = 0;
        for chain in chains {
            let Some(answer) = &self.answers[chain.sequence] else {
                continue;
            };
            keys = keys.max(answer.past + chain.tree.len() as u32);
            rows.push(ChainRows {
                sequence: chain.sequence as u32,
                past: answer.past,
                tokens: chain.tree.tokens(),
            });
            checks.push(ChainCheck {
                choice: &answer.options.choice,
                tree: &chain.tree,
                committed: &answer.committed,
                position: answer.past,
                masks: chain.masks.as_deref(),
            });
        }
        let each = self.verifier.set_step(&checks)?;
        let gpu = &self.reader.gpu;
        decoder.set_step(gpu, each, &rows);
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            decoder.encode(&mut pass, rows.len() as u32, each, keys);
            self.verifier.encode(&mut pass, each);
        }
        self.verifier.encode_read(&mut encoder, each);
        gpu.queue().submit([encoder.finish()]);
        let verdicts = self.verifier.read(each, rows.len()).await?;
        let results = verdicts.into_iter().zip(&checks).map(|(verdict, check)| {
            let mut log_probabilities = match check.choice.log_probabilities {
                Some(_) => LogProbabilities::of(&verdict),
                None => Vec::new(),
            };
            // Another answer may have asked for more.
            for of_token in &mut log_probabilities {
                of_token.top.truncate(check.choice.top() as usize);
            }
            StepResult {
                log_probabilities,
                path: verdict.path,
                tokens: verdict.tokens,
                read: None,
            }
        });
        Ok(results.collect())
    }
}

impl Session {
    /// Copies the keys and values of the sequence to a place of the decoder's batch, which has these `pages` there if it
    /// has any.
    fn copy_to_batch(&self, sequence: u32, to_pages: &[u32]) {
        let Some(batch) = self.decoder.batch() else {
            return;
        };
        let pages = self.paging.as_ref().map(|paging| paging.pages());
        let cache = self.decoder.cache();
        let from = cache.runs(pages.as_deref().unwrap_or_default(), self.past);
        let targets = match batch.cache().pool() {
            Some(_) => batch.cache().runs(to_pages, self.past),
            None => {
                let first = sequence * batch.cache().capacity();
                std::iter::once(first..first + self.past).collect()
            }
        };
        let mut encoder = (self.gpu.device()).create_command_encoder(&Default::default());
        cache.encode_copy(&mut encoder, &from, batch.cache(), &targets);
        self.gpu.queue().submit([encoder.finish()]);
    }
}
