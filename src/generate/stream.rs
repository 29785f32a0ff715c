//! The tokens of an answer, one by one.

use std::collections::VecDeque;

use web_time::{Duration, Instant};

use super::{GenerateError, Session};

/// When to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerateOptions {
    /// Most tokens of the answer.
    pub max_tokens: usize,
    /// Tokens that end the answer; they are not part of it.
    pub end_tokens: Vec<u32>,
}

/// How a token came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The target model's own choice after the prompt or after the last accepted token.
    Target,
    /// Drafted and kept.
    Drafted,
}

/// One token of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// How it came about.
    pub origin: Origin,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finish {
    /// The model ended it.
    EndToken,
    /// It has as many tokens as were asked for.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// An error ended it.
    Error,
}

/// Counts and times of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the answer, those that ended it not counted.
    pub tokens: usize,
    /// Verification steps after the prompt.
    pub steps: usize,
    /// Draft tokens checked.
    pub drafted: usize,
    /// Draft tokens kept.
    pub accepted: usize,
    /// Tokens that the steps gave, also those past the end of the answer.
    pub stepped_tokens: usize,
    /// Time for the prompt, up to the first token.
    pub prefill: Duration,
    /// Time for the steps.
    pub decode: Duration,
}

impl Statistics {
    /// Tokens of the prompt a second.
    pub fn prefill_tokens_per_second(&self) -> f64 {
        per_second(self.prompt_tokens, self.prefill)
    }

    /// Tokens a second after the prompt. The first token of the answer belongs to the prompt.
    pub fn decode_tokens_per_second(&self) -> f64 {
        per_second(self.stepped_tokens, self.decode)
    }

    /// Tokens a step: 1 without drafts, more with good ones.
    pub fn tokens_per_step(&self) -> f64 {
        match self.steps {
            0 => 0.0,
            steps => self.stepped_tokens as f64 / steps as f64,
        }
    }
}

fn per_second(count: usize, time: Duration) -> f64 {
    match time.as_secs_f64() {
        0.0 => 0.0,
        seconds => count as f64 / seconds,
    }
}

/// The answer to a prompt as it is generated.
///
/// Use [`next_token`](Self::next_token) in async code, or the iterator on native targets. Dropping
/// the stream ends the answer; the session keeps what was committed.
pub struct TokenStream<'a> {
    session: &'a mut Session,
    options: GenerateOptions,
    prompt: Option<Vec<u32>>,
    ready: VecDeque<Token>,
    finish: Option<Finish>,
    statistics: Statistics,
    progress: Box<dyn FnMut(usize, usize) + 'a>,
}

impl Session {
    /// The answer to `prompt`. Nothing is computed before the first token is asked for.
    pub fn generate(&mut self, prompt: &[u32], options: GenerateOptions) -> TokenStream<'_> {
        TokenStream {
            session: self,
            options,
            prompt: Some(prompt.to_vec()),
            ready: VecDeque::new(),
            finish: None,
            statistics: Statistics {
                prompt_tokens: prompt.len(),
                ..Default::default()
            },
            progress: Box::new(|_, _| ()),
        }
    }
}

impl<'a> TokenStream<'a> {
    /// Calls `progress` with tokens read and tokens in all while the prompt is read.
    pub fn with_prompt_progress(mut self, progress: impl FnMut(usize, usize) + 'a) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Counts and times so far.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// The draft of the last step: see [`Session::last_draft`].
    pub fn last_draft(&self) -> Option<(&crate::tree::DraftTree, &[u32])> {
        self.session.last_draft()
    }

    /// Why the answer ended, once it has.
    pub fn finish(&self) -> Option<Finish> {
        self.finish.filter(|_| self.ready.is_empty())
    }

    /// The next token; `None` at the end of the answer.
    ///
    /// # Errors
    /// Those of [`Session::read_prompt`] and [`Session::step`]; the stream has ended then.
    pub async fn next_token(&mut self) -> Option<Result<Token, GenerateError>> {
        loop {
            if let Some(token) = self.ready.pop_front() {
                self.statistics.tokens += 1;
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
            let first = self
                .session
                .read_prompt(&prompt, &mut self.progress)
                .await?;
            self.statistics.prefill = start.elapsed();
            self.accept(&[first], 0);
            return Ok(());
        }
        if self.session.room() == 0 {
            self.finish = Some(Finish::ContextFull);
            return Ok(());
        }
        let left = self.options.max_tokens - self.statistics.tokens;
        let step = self.session.step(left).await?;
        self.statistics.decode += start.elapsed();
        self.statistics.steps += 1;
        self.statistics.drafted += step.drafted;
        self.statistics.accepted += step.accepted;
        self.statistics.stepped_tokens += step.tokens.len();
        self.accept(&step.tokens, step.accepted);
        Ok(())
    }

    /// Takes the tokens of a step, of which the first `accepted` were drafted.
    fn accept(&mut self, tokens: &[u32], accepted: usize) {
        for (i, id) in tokens.iter().enumerate() {
            if self.options.end_tokens.contains(id) {
                self.finish = Some(Finish::EndToken);
                return;
            }
            let origin = match i < accepted {
                true => Origin::Drafted,
                false => Origin::Target,
            };
            self.ready.push_back(Token { id: *id, origin });
            if self.statistics.tokens + self.ready.len() >= self.options.max_tokens {
                self.finish = Some(Finish::MaxTokens);
                return;
            }
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
