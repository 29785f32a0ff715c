//! Text to token ids and back, from a file's own vocabulary.
//!
//! Encoding is done by the `tokenizers` crate, built from the file's tokens, merges or scores, and
//! pre-tokeniser. Decoding needs only the bytes of each token, so that a stream can hold back the
//! bytes of a character that isn't complete yet.

use std::{collections::HashMap, str::FromStr};

use serde_json::{Value as Json, json};

use super::{Gguf, GgufError};

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
    /// The `tokenizers` crate refused the vocabulary or the text.
    #[error("the tokenizer failed: {message}; its vocabulary or merges may be damaged")]
    Library {
        /// Its message.
        message: String,
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

/// ggml's token types.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const BYTE: i64 = 6;

/// Names under which models end a turn or a text.
const END_NAMES: [&str; 6] = [
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "</s>",
];

/// Text to token ids and back.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    with_special: tokenizers::Tokenizer, // control tokens in the text are recognised
    plain: tokenizers::Tokenizer,        // control tokens in the text are text
    bytes: Vec<Option<Vec<u8>>>,         // [token]; none for control tokens
    names: Vec<String>,
    begin: Option<u32>,
    adds_begin: bool,
    ends: Vec<u32>,
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
        let kind = gguf.str("tokenizer.ggml.model")?;
        let tokens = gguf.strings("tokenizer.ggml.tokens")?;
        let types = match gguf.get("tokenizer.ggml.token_type") {
            Some(value) => value.as_integers("tokenizer.ggml.token_type")?,
            None => vec![1; tokens.len()],
        };
        check_length("token_type", types.len(), tokens.len())?;
        let description = match kind {
            "gpt2" => byte_level(gguf, tokens)?,
            "llama" => sentence_piece(gguf, tokens)?,
            other => {
                return Err(TokenizerError::Kind {
                    key: "tokenizer.ggml.model",
                    found: other.to_owned(),
                    supported: "gpt2 (byte-level BPE) and llama (SentencePiece BPE)",
                });
            }
        };
        let with_special = build(description, tokens, &types)?;
        let mut plain = with_special.clone();
        plain.set_encode_special_tokens(true);
        let letters = byte_letters();
        let bytes = tokens
            .iter()
            .zip(&types)
            .map(|(token, ty)| match (*ty, kind) {
                (CONTROL, _) => None,
                (USER_DEFINED, _) => Some(token.clone().into_bytes()),
                (BYTE, _) => Some(byte_token(token).into_iter().collect()),
                (_, "llama") => Some(token.replace('\u{2581}', " ").into_bytes()),
                _ => Some(token_bytes(token, &letters)),
            });
        let special = |key: &str| gguf.get(key).and_then(|v| v.as_u32(key).ok());
        let mut ends: Vec<u32> = ["eos", "eot", "eom"]
            .iter()
            .filter_map(|name| special(&format!("tokenizer.ggml.{name}_token_id")))
            .collect();
        ends.extend(
            (0u32..)
                .zip(tokens)
                .zip(&types)
                .filter_map(|((id, token), ty)| {
                    (*ty == CONTROL && END_NAMES.contains(&token.as_str())).then_some(id)
                }),
        );
        ends.sort_unstable();
        ends.dedup();
        let adds_begin = match gguf.get("tokenizer.ggml.add_bos_token") {
            Some(value) => value.as_bool("tokenizer.ggml.add_bos_token")?,
            None => kind == "llama",
        };
        Ok(Self {
            bytes: bytes.collect(),
            names: tokens.to_vec(),
            begin: special("tokenizer.ggml.bos_token_id"),
            adds_begin,
            ends,
            with_special,
            plain,
        })
    }

    /// Token ids of `text`. With `parse_special`, names of control tokens in the text become
    /// those tokens; without it they stay text, so that text from elsewhere can't end a turn.
    ///
    /// # Errors
    /// [`TokenizerError::Library`].
    pub fn encode(&self, text: &str, parse_special: bool) -> Result<Vec<u32>, TokenizerError> {
        let tokenizer = match parse_special {
            true => &self.with_special,
            false => &self.plain,
        };
        let encoding = tokenizer
            .encode_fast(text, false)
            .map_err(|error| library(&*error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Token ids of a whole prompt: with the model's begin token where it wants one, and with
    /// control tokens recognised.
    ///
    /// # Errors
    /// [`TokenizerError::Library`].
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = self.encode(text, true)?;
        if let Some(begin) = self.begin.filter(|_| self.adds_begin)
            && ids.first() != Some(&begin)
        {
            ids.insert(0, begin);
        }
        Ok(ids)
    }

    /// Text of `tokens`. Control tokens have none; bytes that are no UTF-8 become U+FFFD.
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
        DecodeStream {
            tokenizer: self,
            held: Vec::new(),
        }
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

    /// Tokens that end a turn or a text, ascending.
    pub fn end_tokens(&self) -> Vec<u32> {
        self.ends.clone()
    }

    /// The token every prompt begins with, where the model wants one.
    pub fn begin_token(&self) -> Option<u32> {
        self.begin.filter(|_| self.adds_begin)
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

/// Text from tokens that come one by one.
#[derive(Clone, Debug)]
pub struct DecodeStream<'a> {
    tokenizer: &'a Tokenizer,
    held: Vec<u8>, // bytes of a character that is not complete yet
}

impl DecodeStream<'_> {
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

fn check_length(what: &'static str, given: usize, needed: usize) -> Result<(), TokenizerError> {
    if given == needed {
        return Ok(());
    }
    Err(TokenizerError::Lengths {
        what,
        given,
        needed,
    })
}

fn library(error: &dyn std::error::Error) -> TokenizerError {
    TokenizerError::Library {
        message: error.to_string(),
    }
}

/// Makes the crate's tokenizer from model, pre-tokeniser and normaliser, with the file's control
/// and user-defined tokens added.
fn build(
    mut description: Json,
    tokens: &[String],
    types: &[i64],
) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let added: Vec<Json> = tokens
        .iter()
        .zip(types)
        .enumerate()
        .filter(|(_, (token, ty))| matches!(**ty, CONTROL | USER_DEFINED) && !token.is_empty())
        .map(|(id, (token, ty))| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": *ty == CONTROL,
            })
        })
        .collect();
    description["version"] = json!("1.0");
    description["added_tokens"] = added.into();
    tokenizers::Tokenizer::from_str(&description.to_string()).map_err(|error| library(&*error))
}

fn vocabulary(tokens: &[String]) -> Json {
    let entries = tokens.iter().enumerate();
    Json::Object(
        entries
            .map(|(id, token)| (token.clone(), id.into()))
            .collect(),
    )
}

/// Byte-level BPE (GPT-2 and its kin).
fn byte_level(gguf: &Gguf, tokens: &[String]) -> Result<Json, TokenizerError> {
    const PRE: &str = "tokenizer.ggml.pre";
    let pre = match gguf.get(PRE) {
        Some(value) => value.as_str(PRE)?,
        None => "default",
    };
    let gpt2 = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    });
    let split = |digits: &str| {
        // The contractions, words, digits, punctuation and white space of Llama 3 and Qwen 2.
        let pattern = format!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        );
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]})
    };
    let pre_tokenizer = match pre {
        "default" | "gpt-2" | "gpt2" => gpt2,
        // Every digit on its own, then GPT-2's rule.
        "smollm" => json!({"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true}, gpt2,
        ]}),
        "llama-bpe" | "llama3" | "llama-v3" => split(r"\p{N}{1,3}"),
        "qwen2" => split(r"\p{N}"),
        other => {
            return Err(TokenizerError::Kind {
                key: PRE,
                found: other.to_owned(),
                supported: "default, gpt-2, smollm, llama-bpe and qwen2",
            });
        }
    };
    let merges = gguf.strings("tokenizer.ggml.merges")?;
    // Llama 3 takes a whole word that is a token as it is, whatever the merges say.
    let ignore_merges = pre.starts_with("llama");
    Ok(json!({
        "pre_tokenizer": pre_tokenizer,
        "model": {
            "type": "BPE", "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": ignore_merges,
            "vocab": vocabulary(tokens), "merges": merges,
        },
    }))
}

/// SentencePiece BPE (Llama 2 and its kin): a merge's priority is the score of what it makes.
fn sentence_piece(gguf: &Gguf, tokens: &[String]) -> Result<Json, TokenizerError> {
    const SCORES: &str = "tokenizer.ggml.scores";
    let scores = match gguf.get(SCORES) {
        Some(value) => value.as_f32s(SCORES)?,
        None => {
            return Err(GgufError::KeyMissing {
                key: SCORES.to_owned(),
                expected: "an array of f32",
            }
            .into());
        }
    };
    check_length("scores", scores.len(), tokens.len())?;
    let ids: HashMap<&str, usize> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (token.as_str(), id))
        .collect();
    let mut merges: Vec<(f32, [usize; 2], [&str; 2])> = Vec::new();
    for (token, score) in tokens.iter().zip(scores) {
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if let (Some(l), Some(r)) = (ids.get(left), ids.get(right)) {
                merges.push((*score, [*l, *r], [left, right]));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let merges: Vec<Json> = merges.iter().map(|(_, _, pair)| json!(pair)).collect();
    const PREFIX: &str = "tokenizer.ggml.add_space_prefix";
    let add_prefix = match gguf.get(PREFIX) {
        Some(value) => value.as_bool(PREFIX)?,
        None => true,
    };
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
    let normalizer = match add_prefix {
        true => json!({"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u{2581}"}, replace,
        ]}),
        false => replace,
    };
    let unknown = tokens.first().map(String::as_str).unwrap_or_default();
    Ok(json!({
        "normalizer": normalizer,
        "model": {
            "type": "BPE", "unk_token": unknown, "fuse_unk": true, "byte_fallback": true,
            "ignore_merges": false, "vocab": vocabulary(tokens), "merges": merges,
        },
    }))
}

/// GPT-2 writes each byte as a printable letter; this is the way back.
fn byte_letters() -> HashMap<char, u8> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let rest = (0..=255u8).filter(|byte| !printable(byte)).zip(256u32..);
    let moved = rest.filter_map(|(byte, code)| Some((char::from_u32(code)?, byte)));
    let kept = (0..=255u8)
        .filter(printable)
        .map(|byte| (char::from(byte), byte));
    kept.chain(moved).collect()
}

fn token_bytes(token: &str, letters: &HashMap<char, u8>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(token.len());
    for letter in token.chars() {
        match letters.get(&letter) {
            Some(byte) => bytes.push(*byte),
            None => bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// The byte of a token such as `<0x0A>`.
fn byte_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok()
}
