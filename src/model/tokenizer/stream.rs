//! Text from tokens that come one by one.

use super::{Tokenizer, TokenizerError};

/// Text from tokens that come one by one.
#[derive(Clone, Debug)]
pub struct DecodeStream<'a> {
    tokenizer: &'a Tokenizer,
    held: Vec<u8>, // bytes of a character that is not complete yet
}

impl<'a> DecodeStream<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self {
            tokenizer,
            held: Vec::new(),
        }
    }

    /// The text that `token` completes; `None` while a character is incomplete.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownToken`].
    pub fn push(&mut self, token: u32) -> Result<Option<String>, TokenizerError> {
        self.held.extend_from_slice(self.tokenizer.bytes_of(token)?);
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.held) {
                Ok(rest) => {
                    text.push_str(rest);
                    self.held.clear();
                    break;
                }
                Err(error) => {
                    let (valid, rest) = self.held.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    match error.error_len() {
                        // No continuation can make these bytes a character.
                        Some(wrong) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            self.held = rest[wrong..].to_vec();
                        }
                        None => {
                            self.held = rest.to_vec();
                            break;
                        }
                    }
                }
            }
        }
        Ok((!text.is_empty()).then_some(text))
    }

    /// What is left at the end: U+FFFD for a character that was never completed.
    ///
    /// # Errors
    /// None; the type is that of [`push`](Self::push).
    pub fn finish(self) -> Result<Option<String>, TokenizerError> {
        let rest = String::from_utf8_lossy(&self.held).into_owned();
        Ok((!rest.is_empty()).then_some(rest))
    }
}
