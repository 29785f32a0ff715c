//! Text to token ids and back, from a file's own vocabulary.
//!
//! Three steps, a file each: `control` finds the control tokens that a text may contain, `pieces`
//! encodes what lies between them with the `tokenizers` crate, and `stream` turns tokens into text
//! again, holding back the bytes of a character that isn't complete yet.
//!
//! Whether names of control tokens count is said for each part of a text, and the model that
//! encodes the rest doesn't have them in its vocabulary: so no text of a user can become one.

mod control;
mod pieces;
mod sentence_piece;
mod stream;

use super::{Gguf, GgufError};
use control::NamedTokens;
use pieces::{Pieces, Place};
pub use stream::DecodeStream;

/// Why a tokenizer can't be made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file has no tokenizer.
    #[error("the file has no tokenizer (`tokenizer.ggml.model`); give the prompt as token ids")]
    TokenizerMissing,
    /// A kind of tokenizer this version doesn't know.
    #[error("`{key}` is {found:?}; supported are {supported}")]
    Kind {
        /// Metadata key.
        key: &'static str,
        /// Its value.
        found: String,
        /// What is supported.
        supported: &'static str,
    },
    /// The metadata lacks a value or has one of the wrong type.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The lists of the tokenizer don't fit each other.
    #[error("the tokenizer's {what} has {given} entries; its vocabulary has {needed}")]
    Lengths {
        /// The list.
        what: &'static str,
        /// Its entries.
        given: usize,
        /// Entries needed.
        needed: usize,
    },
    /// A token that no vocabulary has.
    #[error(
        "token {token} of the vocabulary is {given} bytes long, at most {most} are read; the file is damaged"
    )]
    TokenTooLong {
        /// Its id.
        token: usize,
        /// Its length. // bytes
        given: usize,
        /// The limit. // bytes
        most: usize,
    },
    /// A merge that is not two tokens.
    #[error(
        "merge {index} of the tokenizer is {merge:?}, needed two tokens with a space between; the file is damaged"
    )]
    Merge {
        /// Its place in the list.
        index: usize,
        /// What the file has.
        merge: String,
    },
    /// The `tokenizers` crate refused the vocabulary or the text.
    #[error("the tokenizer failed: {message}; its vocabulary or merges may be damaged")]
    Library {
        /// Its message.
        message: String,
    },
    /// The metadata names a token past the vocabulary.
    #[error(
        "`{key}` is {token}, which is not below the vocabulary of {vocabulary}; the file is damaged"
    )]
    SpecialToken {
        /// Metadata key.
        key: String,
        /// The id.
        token: u64,
        /// Ids there are.
        vocabulary: usize,
    },
    /// An id past the vocabulary.
    #[error("token {token} is not below the tokenizer's vocabulary of {vocabulary}")]
    UnknownToken {
        /// The id.
        token: u32,
        /// Ids there are.
        vocabulary: usize,
    },
}

/// What a token is for, by ggml's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenType {
    /// Text like any other.
    Text,
    /// Steers the model: has no text, and counts in a text only where that is asked for.
    Control,
    /// Text that is always one token, whatever the merges say.
    UserDefined,
    /// A single byte, written `<0xXX>`.
    Byte,
}

impl TokenType {
    fn from_number(number: i64) -> Self {
        match number {
            // The unknown token (2) has no text either.
            2 | 3 => Self::Control,
            4 => Self::UserDefined,
            6 => Self::Byte,
            _ => Self::Text,
        }
    }
}

/// Longest token; the longest real ones are runs of a few hundred spaces. // bytes
const MAX_TOKEN_BYTES: usize = 4096;

/// Names under which models end a turn or a text.
const END_NAMES: [&str; 7] = [
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "</s>",
];

/// Text to token ids and back.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    pieces: Pieces,
    named: NamedTokens,
    bytes: Vec<Option<Vec<u8>>>, // [token]; none for control tokens
    names: Vec<String>,          // [token]
    begin: Option<u32>,
    ends: Vec<u32>, // ascending
}

impl Tokenizer {
    /// Builds the tokenizer of a file.
    ///
    /// # Errors
    /// [`TokenizerError::TokenizerMissing`] for a file without one, [`TokenizerError::Kind`] for
    /// a kind that isn't supported, and the errors of damaged metadata.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, TokenizerError> {
        if gguf.get("tokenizer.ggml.model").is_none() {
            return Err(TokenizerError::TokenizerMissing);
        }
        let tokens = gguf.strings("tokenizer.ggml.tokens")?;
        let long = |(_, token): &(usize, &String)| token.len() > MAX_TOKEN_BYTES;
        if let Some((id, token)) = tokens.iter().enumerate().find(long) {
            return Err(TokenizerError::TokenTooLong {
                token: id,
                given: token.len(),
                most: MAX_TOKEN_BYTES,
            });
        }
        let types = token_types(gguf, tokens)?;
        let pieces = Pieces::from_gguf(gguf, tokens, &types)?;
        let bytes = tokens
            .iter()
            .zip(&types)
            .map(|(token, kind)| pieces.text_of(token, *kind))
            .collect();
        let adds_begin = match gguf.get("tokenizer.ggml.add_bos_token") {
            Some(value) => value.as_bool("tokenizer.ggml.add_bos_token")?,
            None => pieces.begins_by_default(),
        };
        let begin = special_token(gguf, "bos", tokens.len())?.filter(|_| adds_begin);
        Ok(Self {
            named: NamedTokens::new(tokens, &types),
            ends: end_tokens(gguf, tokens, &types)?,
            names: tokens.to_vec(),
            pieces,
            bytes,
            begin,
        })
    }

    /// Token ids of `text`. With `parse_special`, names of control tokens in the text become
    /// those tokens; without it they stay text, so that text from elsewhere can't end a turn.
    ///
    /// What the vocabulary has no token for, not even by bytes, is left out (as llama.cpp does).
    ///
    /// # Errors
    /// [`TokenizerError::Library`].
    pub fn encode(&self, text: &str, parse_special: bool) -> Result<Vec<u32>, TokenizerError> {
        self.encode_parts([(text, parse_special)])
    }

    /// Token ids of a text in parts: `(text, parse_special)`, as for [`encode`](Self::encode).
    ///
    /// Between control tokens the parts are encoded as one text, so the ids are those of the
    /// whole, except that a control token is found only in parts with `parse_special`.
    ///
    /// # Errors
    /// [`TokenizerError::Library`].
    pub fn encode_parts<'t>(
        &self,
        parts: impl IntoIterator<Item = (&'t str, bool)>,
    ) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::new();
        let mut between = String::new();
        let mut place = Place::Start;
        for (mut text, parse_special) in parts {
            while let Some(found) = self.named.find(text, parse_special) {
                between.push_str(&text[..found.start]);
                self.pieces.encode(&between, place, &mut ids)?;
                between.clear();
                ids.push(found.id);
                place = Place::AfterNamed;
                text = &text[found.end..];
            }
            between.push_str(text);
        }
        self.pieces.encode(&between, place, &mut ids)?;
        Ok(ids)
    }

    /// Token ids of a whole prompt: with the model's begin token where it wants one, and with
    /// control tokens recognised.
    ///
    /// # Errors
    /// [`TokenizerError::Library`].
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        Ok(self.with_begin(self.encode(text, true)?))
    }

    /// Puts the begin token before `ids` where the model wants one and it isn't there yet.
    pub fn with_begin(&self, mut ids: Vec<u32>) -> Vec<u32> {
        if let Some(begin) = self.begin
            && ids.first() != Some(&begin)
        {
            ids.insert(0, begin);
        }
        ids
    }

    /// Text of `tokens`. Control tokens have none; bytes that are no UTF-8 become U+FFFD.
    ///
    /// The text is that of a continuation: where SentencePiece puts a space before a text, it
    /// stays.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownToken`].
    pub fn decode(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        let mut bytes = Vec::new();
        for token in tokens {
            bytes.extend_from_slice(self.bytes_of(*token)?);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A decoder that takes one token at a time.
    pub fn decode_stream(&self) -> DecodeStream<'_> {
        DecodeStream::new(self)
    }

    fn bytes_of(&self, token: u32) -> Result<&[u8], TokenizerError> {
        match self.bytes.get(token as usize) {
            Some(bytes) => Ok(bytes.as_deref().unwrap_or_default()),
            None => Err(TokenizerError::UnknownToken {
                token,
                vocabulary: self.bytes.len(),
            }),
        }
    }

    /// The bytes of each token's text, as grammars take them: control tokens have the byte 0xFF, which no text
    /// has, before their name. Tokens with that byte themselves are left empty.
    #[cfg(feature = "grammar")]
    pub(crate) fn text_bytes(&self) -> Vec<Vec<u8>> {
        const MARK: u8 = 0xff;
        let bytes = self.bytes.iter().zip(&self.names);
        bytes
            .map(|(bytes, name)| match bytes {
                Some(bytes) if bytes.contains(&MARK) => Vec::new(),
                Some(bytes) => bytes.clone(),
                None => [&[MARK], name.as_bytes()].concat(),
            })
            .collect()
    }

    /// Tokens that end a turn or a text, ascending.
    pub fn end_tokens(&self) -> Vec<u32> {
        self.ends.clone()
    }

    /// Whether `token` ends a turn or a text.
    pub fn is_end(&self, token: u32) -> bool {
        self.ends.binary_search(&token).is_ok()
    }

    /// The token every prompt begins with, where the model wants one.
    pub fn begin_token(&self) -> Option<u32> {
        self.begin
    }

    /// A token's name in the file, such as `<|im_end|>`.
    pub fn name(&self, token: u32) -> Option<&str> {
        self.names.get(token as usize).map(String::as_str)
    }

    /// Number of token ids.
    pub fn vocabulary(&self) -> usize {
        self.names.len()
    }
}

fn token_types(gguf: &Gguf, tokens: &[String]) -> Result<Vec<TokenType>, TokenizerError> {
    const KEY: &str = "tokenizer.ggml.token_type";
    let Some(value) = gguf.get(KEY) else {
        return Ok(vec![TokenType::Text; tokens.len()]);
    };
    let numbers = value.as_integers(KEY)?;
    check_length("token_type", numbers.len(), tokens.len())?;
    let types = numbers.into_iter().map(TokenType::from_number);
    // Who adds ChatML's tokens to a model often forgets to say that they are no text.
    let steers = |name: &str| name == "<|im_start|>" || END_NAMES.contains(&name);
    Ok((types.zip(tokens))
        .map(|(kind, name)| match kind {
            TokenType::UserDefined if steers(name) => TokenType::Control,
            kind => kind,
        })
        .collect())
}

fn check_length(what: &'static str, given: usize, needed: usize) -> Result<(), TokenizerError> {
    match given == needed {
        true => Ok(()),
        false => Err(TokenizerError::Lengths {
            what,
            given,
            needed,
        }),
    }
}

/// The token `tokenizer.ggml.{name}_token_id`, if the file has one.
fn special_token(
    gguf: &Gguf,
    name: &str,
    vocabulary: usize,
) -> Result<Option<u32>, TokenizerError> {
    let key = format!("tokenizer.ggml.{name}_token_id");
    let Some(value) = gguf.get(&key) else {
        return Ok(None);
    };
    // Converters write -1 for a token that a model doesn't have.
    if value.as_integer() == Some(-1) || value.as_integer() == Some(i128::from(u32::MAX)) {
        return Ok(None);
    }
    let token = value.as_u64(&key)?;
    match u32::try_from(token) {
        Ok(id) if (id as usize) < vocabulary => Ok(Some(id)),
        _ => Err(TokenizerError::SpecialToken {
            key,
            token,
            vocabulary,
        }),
    }
}

fn end_tokens(
    gguf: &Gguf,
    tokens: &[String],
    types: &[TokenType],
) -> Result<Vec<u32>, TokenizerError> {
    let mut ends = Vec::new();
    for name in ["eos", "eot", "eom"] {
        ends.extend(special_token(gguf, name, tokens.len())?);
    }
    for ((id, token), kind) in (0u32..).zip(tokens).zip(types) {
        if *kind == TokenType::Control && END_NAMES.contains(&token.as_str()) {
            ends.push(id);
        }
    }
    ends.sort_unstable();
    ends.dedup();
    Ok(ends)
}
