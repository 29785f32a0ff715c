//! The text of an answer, piece by piece.

use std::collections::VecDeque;

use super::{Finish, GenerateError, Origin, StopStep, StopStrings, Token, TokenStream};
use crate::model::{DecodeStream, Tokenizer};

/// A piece of an answer's text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TextPiece {
    /// The text, never empty.
    pub text: String,
    /// How the token came about that it belongs to; of a character in several tokens, the last one.
    pub origin: Origin,
}

/// The text of an answer as it is generated: tokens decoded to whole characters, ended by stop strings.
///
/// ```no_run
/// # use sunfleck::{generate::{GenerateError, GenerateOptions, Session, StopStrings, TextStream}, model::Tokenizer};
/// # async fn example(session: &mut Session, tokenizer: &Tokenizer, prompt: &[u32]) -> Result<(), GenerateError> {
/// let tokens = session.generate(prompt, GenerateOptions::default());
/// let mut text = TextStream::new(tokens, tokenizer, StopStrings::new(["\n\n"]));
/// while let Some(piece) = text.next_piece().await {
///     print!("{}", piece?.text);
/// }
/// # Ok(())
/// # }
/// ```
pub struct TextStream<'a> {
    tokens: TokenStream<'a>,
    decoder: Option<DecodeStream<'a>>,
    stops: StopStrings,
    held: VecDeque<TextPiece>, // text that the stop strings hold back, by token
    ready: VecDeque<TextPiece>,
    seen: Vec<Token>,
}

impl<'a> TextStream<'a> {
    /// The text of `tokens`, up to the first of `stops`.
    pub fn new(tokens: TokenStream<'a>, tokenizer: &'a Tokenizer, stops: StopStrings) -> Self {
        Self {
            tokens,
            decoder: Some(tokenizer.decode_stream()),
            stops,
            held: VecDeque::new(),
            ready: VecDeque::new(),
            seen: Vec::new(),
        }
    }

    /// The tokens so far, those of a stop string included.
    pub fn tokens(&self) -> &[Token] {
        &self.seen
    }

    /// The stream of tokens: counts, times, and why the answer ended.
    pub fn stream(&self) -> &TokenStream<'a> {
        &self.tokens
    }

    /// The next piece of text; `None` at the end of the answer.
    ///
    /// # Errors
    /// Those of [`TokenStream::next_token`], and [`GenerateError::Tokenizer`] for a token without text.
    pub async fn next_piece(&mut self) -> Option<Result<TextPiece, GenerateError>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(Ok(piece));
            }
            self.decoder.as_ref()?;
            let advanced = match self.tokens.next_token().await {
                Some(Ok(token)) => self.push(token),
                Some(Err(error)) => Err(error),
                None => self.end(),
            };
            if let Err(error) = advanced {
                self.decoder = None;
                return Some(Err(error));
            }
        }
    }

    fn push(&mut self, token: Token) -> Result<(), GenerateError> {
        let (id, origin) = (token.id, token.origin);
        self.seen.push(token);
        let Some(text) = self.decoder.as_mut().map(|decoder| decoder.push(id)) else {
            return Ok(());
        };
        let Some(text) = text? else {
            return Ok(());
        };
        let step = self.stops.push(&text);
        self.held.push_back(TextPiece { text, origin });
        match step {
            StopStep::Text(free) => self.release(free.len()),
            StopStep::Stopped(before) => {
                self.release(before.len());
                self.held.clear();
                self.decoder = None;
                self.tokens.stop(Finish::StopString);
            }
        }
        Ok(())
    }

    /// Hands out what the tokenizer and the stop strings held back.
    fn end(&mut self) -> Result<(), GenerateError> {
        let rest = self.decoder.take().map(DecodeStream::finish).transpose()?;
        if let Some(text) = rest.flatten() {
            let origin = self.seen.last().map_or(Origin::Plain, |token| token.origin);
            self.stops.push(&text);
            self.held.push_back(TextPiece { text, origin });
        }
        self.release(usize::MAX);
        Ok(())
    }

    /// Moves the first `bytes` bytes of what is held to what is ready.
    fn release(&mut self, mut bytes: usize) {
        while let Some(piece) = self.held.front_mut() {
            if piece.text.len() > bytes {
                let rest = piece.text.split_off(bytes);
                let origin = piece.origin;
                let text = std::mem::replace(&mut piece.text, rest);
                if !text.is_empty() {
                    self.ready.push_back(TextPiece { text, origin });
                }
                return;
            }
            bytes -= piece.text.len();
            self.ready.extend(self.held.pop_front());
        }
    }
}
