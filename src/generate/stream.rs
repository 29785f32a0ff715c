//! The tokens of an answer, one by one.

use std::{collections::VecDeque, sync::Arc};

use web_time::Instant;

use super::{
    CancelHandle, GenerateError, Grammar, LogProbabilities, Session, Statistics, TokenChoice,
    given::Given,
    step::{Step, StepResult},
};

/// How an answer is made, and when it ends.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// Most tokens of the answer.
    pub max_tokens: usize,
    /// Tokens that end the answer; they are not part of it.
    pub end_tokens: Vec<u32>,
    /// How tokens are chosen.
    pub choice: TokenChoice,
    /// What the answer may be made of; anything without.
    pub grammar: Option<Arc<dyn Grammar>>,
    /// What to do at the context's end: end the answer (`None`), or drop what lies between the first
    /// `Some(sinks)` tokens and the later half of the rest, and go on ([`Session::shift_context`]).
    pub context_shift: Option<u32>,
}

impl Default for GenerateOptions {
    /// 256 tokens, greedily, and an end where the context ends.
    fn default() -> Self {
        Self {
            max_tokens: 256,
            end_tokens: Vec::new(),
            choice: TokenChoice::default(),
            grammar: None,
            context_shift: None,
        }
    }
}

/// How a token came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// The target model's own, after the prompt or in a step without a draft.
    Plain,
    /// Drafted and kept.
    Drafted,
    /// The target model's own after the drafted tokens that were kept, if any.
    Bonus,
}

/// One token of the answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// How it came about.
    pub origin: Origin,
    /// How likely it was, where that was asked for.
    pub log_probabilities: Option<LogProbabilities>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finish {
    /// The model ended it.
    EndToken,
    /// A stop string was found.
    StopString,
    /// It has as many tokens as were asked for.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// It was cancelled.
    Cancelled,
    /// An error ended it.
    Error,
}

/// The answer to a prompt as it is generated.
///
/// Use [`next_token`](Self::next_token) in async code, or the iterator on native targets. Dropping
/// the stream ends the answer. When the answer ends, the session holds prompt and answer and no more, the
/// token that ended it included, so that the next prompt follows them.
pub struct TokenStream<'a> {
    session: &'a mut Session,
    options: GenerateOptions,
    prompt: Option<Vec<u32>>,
    ready: VecDeque<Token>,
    given: usize, // tokens of the session up to the last one that was handed out
    finish: Option<Finish>,
    statistics: Statistics,
    last_step: Option<Step>,
    progress: Box<dyn FnMut(usize, usize) + 'a>,
    cancel: CancelHandle,
}

impl Session {
    /// The answer to `prompt`. Nothing is computed before the first token is asked for.
    pub fn generate(&mut self, prompt: &[u32], options: GenerateOptions) -> TokenStream<'_> {
        TokenStream {
            given: self.committed.len(),
            session: self,
            options,
            prompt: Some(prompt.to_vec()),
            ready: VecDeque::new(),
            finish: None,
            statistics: Statistics {
                prompt_tokens: prompt.len(),
                ..Default::default()
            },
            last_step: None,
            progress: Box::new(|_, _| ()),
            cancel: CancelHandle::default(),
        }
    }
}

impl<'a> TokenStream<'a> {
    /// Calls `progress` with tokens read and tokens in all while the prompt is read.
    pub fn with_prompt_progress(mut self, progress: impl FnMut(usize, usize) + 'a) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Ends the answer when `cancel` asks for it: between steps, and between the parts of a prompt, which is
    /// then forgotten.
    pub fn with_cancel(mut self, cancel: CancelHandle) -> Self {
        self.cancel = cancel;
        self
    }

    /// Counts and times so far.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// The last step, with its draft and what was kept of it; `None` before the first one after the prompt.
    pub fn last_step(&self) -> Option<&Step> {
        self.last_step.as_ref()
    }

    /// Why the answer ended, once it has.
    pub fn finish(&self) -> Option<Finish> {
        self.finish.filter(|_| self.ready.is_empty())
    }

    /// The session.
    pub fn session(&self) -> &Session {
        self.session
    }

    /// Ends the answer with the tokens handed out so far.
    pub(super) fn stop(&mut self, finish: Finish) {
        self.ready.clear();
        self.session.rewind(self.given);
        self.finish = Some(finish);
    }

    /// The next token; `None` at the end of the answer.
    ///
    /// # Errors
    /// Those of [`Session::set_choice`], [`Session::set_grammar`], [`Session::read_prompt`] and [`Session::step`]; the stream has ended then.
    pub async fn next_token(&mut self) -> Option<Result<Token, GenerateError>> {
        loop {
            if self.cancel.is_cancelled() && self.finish().is_none() {
                self.stop(Finish::Cancelled);
            }
            if let Some(token) = self.ready.pop_front() {
                self.statistics.tokens += 1;
                self.given += 1;
                return Some(Ok(token));
            }
            if self.finish.is_some() {
                return None;
            }
            if let Err(error) = self.advance().await {
                self.finish = Some(Finish::Error);
                return Some(Err(error));
            }
        }
    }

    /// Reads the prompt, or takes one step.
    async fn advance(&mut self) -> Result<(), GenerateError> {
        let start = Instant::now();
        if let Some(prompt) = self.prompt.take() {
            if self.options.max_tokens == 0 {
                self.finish = Some(Finish::MaxTokens);
                return Ok(());
            }
            self.session.set_choice(self.options.choice).await?;
            let grammar = self.options.grammar.clone();
            self.session.set_grammar(grammar).await?;
            let read = (self.session)
                .read_prompt_until(&prompt, &mut self.progress, &self.cancel)
                .await?;
            let Some(first) = read else {
                self.finish = Some(Finish::Cancelled);
                return Ok(());
            };
            self.statistics.prefill = start.elapsed();
            self.given += prompt.len();
            self.accept(first, 0, false);
            return Ok(());
        }
        if self.session.room() == 0 {
            let Some(sinks) = self.options.context_shift else {
                self.finish = Some(Finish::ContextFull);
                return Ok(());
            };
            let before = self.session.committed.len();
            self.session.shift_context(sinks).await?;
            // Nothing is ready now, so all that is committed was handed out.
            self.given = self.session.committed.len();
            if self.given == before {
                self.finish = Some(Finish::ContextFull);
                return Ok(());
            }
            self.statistics.shifts += 1;
            self.statistics.shift += start.elapsed();
        }
        let left = self.options.max_tokens - self.statistics.tokens;
        // All kernels now, so that no later step waits and is taken for slow.
        let waiting = Instant::now();
        self.session.decoder.compiled().await?;
        let waited = waiting.elapsed();
        self.statistics.compile += waited;
        let step = self.session.step(left).await?;
        self.statistics.decode += start.elapsed() - waited;
        self.statistics.add(&step);
        let result = StepResult {
            tokens: step.tokens.clone(),
            log_probabilities: step.log_probabilities.clone(),
            ..Default::default()
        };
        self.accept(result, step.accepted, step.drafted > 0);
        self.last_step = Some(step);
        Ok(())
    }

    /// Takes the tokens of a step, of which the first `accepted` were drafted.
    fn accept(&mut self, result: StepResult, accepted: usize, has_draft: bool) {
        let already = self.statistics.tokens;
        let given = Given::new(result, accepted, has_draft, already, &self.options);
        self.ready.extend(given.tokens);
        self.finish = given.finish;
        if self.finish.is_some() {
            // What the step gave beyond the end is no part of the text.
            self.session.rewind(self.given + given.kept);
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Iterator for TokenStream<'_> {
    type Item = Result<Token, GenerateError>;

    fn next(&mut self) -> Option<Self::Item> {
        pollster::block_on(self.next_token())
    }
}
