//! Encodes text without control tokens: byte-level BPE, and as SentencePiece does it.
//!
//! Sources: the GPT-2 code for the byte alphabet, and llama.cpp's `llama-vocab.cpp` for what a
//! pre-tokeniser's name means.

use std::collections::{HashMap, HashSet};

use tokenizers::{
    Model, NormalizedString, Normalizer as _, OffsetReferential, OffsetType, PreTokenizedString,
    PreTokenizer, SplitDelimiterBehavior,
    models::{
        ModelWrapper,
        bpe::{BPE, Merges, Vocab},
    },
    normalizers::NFC,
    pre_tokenizers::{
        PreTokenizerWrapper, byte_level::ByteLevel, digits::Digits, split::Split,
        split::SplitPattern,
    },
};

use super::{
    TokenType, TokenizerError,
    sentence_piece::{self, SPACE, Spaces},
};
use crate::model::{
    Gguf,
    hugging_face::{IGNORE_MERGES, NORMAL_FORM_C, PRE_TOKENIZER},
};

/// Names of Llama 3's pre-tokeniser.
const LLAMA3: [&str; 5] = ["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"];

/// Where a text without control tokens stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Before anything else.
    Start,
    /// After a control token, or a user-defined one.
    AfterNamed,
}

/// Encodes text that has no control tokens in it.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    pub(super) words: ModelWrapper,
    pub(super) rule: Rule,
}

#[derive(Clone, Debug)]
pub(super) enum Rule {
    /// Split into words, each byte a letter of GPT-2's alphabet.
    ByteLevel {
        /// Whether text is brought into normal form C first.
        composes: bool,
        /// Whether a file that doesn't say so wants its begin token before a prompt.
        begins: bool,
        split: Vec<PreTokenizerWrapper>,
        letters: HashMap<char, u8>,
    },
    /// A mark for each space.
    SentencePiece(Spaces),
}

impl Pieces {
    pub(super) fn from_gguf(
        gguf: &Gguf,
        tokens: &[String],
        types: &[TokenType],
    ) -> Result<Self, TokenizerError> {
        match gguf.str("tokenizer.ggml.model")? {
            "gpt2" => byte_level(gguf, tokens, types),
            "llama" => sentence_piece::read(gguf, tokens, types),
            other => Err(TokenizerError::Kind {
                key: "tokenizer.ggml.model",
                found: shortened(other),
                supported: "gpt2 (byte-level BPE) and llama (SentencePiece BPE)",
            }),
        }
    }

    /// Appends the ids of `text`, which stands in this place.
    pub(super) fn encode(
        &self,
        text: &str,
        place: Place,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        if text.is_empty() {
            return Ok(());
        }
        match &self.rule {
            Rule::ByteLevel {
                composes, split, ..
            } => {
                let mut text = NormalizedString::from(text);
                if *composes {
                    NFC.normalize(&mut text).map_err(library)?;
                }
                let mut words = PreTokenizedString::from(text);
                for step in split {
                    step.pre_tokenize(&mut words).map_err(library)?;
                }
                for (word, ..) in words.get_splits(OffsetReferential::Original, OffsetType::None) {
                    self.encode_word(word, ids)?;
                }
            }
            Rule::SentencePiece(spaces) => {
                for word in spaces.words(&spaces.marked(text, place)) {
                    self.encode_word(word, ids)?;
                }
            }
        }
        Ok(())
    }

    fn encode_word(&self, word: &str, ids: &mut Vec<u32>) -> Result<(), TokenizerError> {
        let tokens = self.words.tokenize(word).map_err(library)?;
        ids.extend(tokens.iter().map(|token| token.id));
        Ok(())
    }

    /// The bytes a token stands for; none for a control token.
    pub(super) fn text_of(&self, token: &str, kind: TokenType) -> Option<Vec<u8>> {
        match (kind, &self.rule) {
            (TokenType::Control, _) => None,
            (TokenType::UserDefined, Rule::ByteLevel { .. }) => Some(token.as_bytes().to_vec()),
            (TokenType::Byte, _) => Some(byte_token(token).into_iter().collect()),
            (_, Rule::SentencePiece(_)) => Some(token.replace(SPACE, " ").into_bytes()),
            (_, Rule::ByteLevel { letters, .. }) => Some(letter_bytes(token, letters)),
        }
    }

    /// Whether a file that doesn't say so wants its begin token before a prompt.
    pub(super) fn begins_by_default(&self) -> bool {
        match &self.rule {
            Rule::ByteLevel { begins, .. } => *begins,
            Rule::SentencePiece(_) => true,
        }
    }
}

/// Byte-level BPE (GPT-2 and its kin).
fn byte_level(
    gguf: &Gguf,
    tokens: &[String],
    types: &[TokenType],
) -> Result<Pieces, TokenizerError> {
    const PRE: &str = "tokenizer.ggml.pre";
    let pre = match gguf.get(PRE) {
        Some(value) => value.as_str(PRE)?,
        None => "default",
    };
    let split = match gguf.get(PRE_TOKENIZER) {
        Some(value) => {
            let json = value.as_str(PRE_TOKENIZER)?;
            vec![serde_json::from_str(json).map_err(|error| library(error.into()))?]
        }
        None => pre_tokenizer(PRE, pre)?,
    };
    // Llama 3 and Tekken take a whole word that is a token as it is, whatever the merges say, and begin prompts with their
    // begin token.
    let whole_words = LLAMA3.contains(&pre) || pre == "tekken";
    let ignore_merges = match gguf.get(IGNORE_MERGES) {
        Some(value) => value.as_bool(IGNORE_MERGES)?,
        None => whole_words,
    };
    let composes = match gguf.get(NORMAL_FORM_C) {
        Some(value) => value.as_bool(NORMAL_FORM_C)?,
        None => false,
    };
    let control: HashSet<&str> = of_type(tokens, types, TokenType::Control).collect();
    let mut seen = HashSet::new();
    let mut merges = Merges::new();
    for (index, merge) in gguf.strings("tokenizer.ggml.merges")?.iter().enumerate() {
        // No token of the byte alphabet has a space in it.
        let Some((left, right)) = merge
            .split_once(' ')
            .filter(|(_, right)| !right.contains(' '))
        else {
            let merge = shortened(merge);
            return Err(TokenizerError::Merge { index, merge });
        };
        // A merge must not spell a control token out of text; of two equal ones the first counts.
        if !control.contains(format!("{left}{right}").as_str()) && seen.insert((left, right)) {
            merges.push((left.to_owned(), right.to_owned()));
        }
    }
    let bpe = BPE::builder()
        .vocab_and_merges(vocabulary(tokens, types), merges)
        .ignore_merges(ignore_merges)
        .build()
        .map_err(library)?;
    Ok(Pieces {
        words: bpe.into(),
        rule: Rule::ByteLevel {
            composes,
            begins: whole_words,
            split,
            letters: byte_letters(),
        },
    })
}

/// How text is split into words before merging, by the pre-tokeniser's name.
fn pre_tokenizer(
    key: &'static str,
    name: &str,
) -> Result<Vec<PreTokenizerWrapper>, TokenizerError> {
    // With `true`, split by GPT-2's pattern; then write bytes as letters.
    let byte_level = |split| PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, split));
    let pattern = |digits: &str| {
        // The contractions, words, digits, punctuation and white space of Llama 3 and Qwen 2.
        let pattern = format!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        );
        let pattern = SplitPattern::Regex(pattern);
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
        Ok::<_, TokenizerError>(PreTokenizerWrapper::Split(split.map_err(library)?))
    };
    Ok(match name {
        "default" | "gpt-2" | "gpt2" => vec![byte_level(true)],
        // Every digit on its own, then GPT-2's pattern.
        "smollm" => vec![
            PreTokenizerWrapper::Digits(Digits::new(true)),
            byte_level(true),
        ],
        name if LLAMA3.contains(&name) || name == "smaug-bpe" => {
            vec![pattern(r"\p{N}{1,3}")?, byte_level(false)]
        }
        "qwen2" | "deepseek-r1-qwen" | "megrez" => {
            vec![pattern(r"\p{N}")?, byte_level(false)]
        }
        "tekken" => vec![tekken()?, byte_level(false)],
        other => {
            return Err(TokenizerError::Kind {
                key,
                found: shortened(other),
                supported: "default, gpt-2, smollm, llama-bpe (and falcon3, pixtral), smaug-bpe, qwen2 (and \
                            deepseek-r1-qwen, megrez) and tekken",
            });
        }
    })
}

/// Mistral's Tekken: a word ends where a lower-case letter meets an upper-case one, every digit is a word,
/// and there are no contractions.
fn tekken() -> Result<PreTokenizerWrapper, TokenizerError> {
    const UPPER: &str = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]";
    const LOWER: &str = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]";
    const LEAD: &str = r"[^\r\n\p{L}\p{N}]?";
    let pattern = format!(
        r"{LEAD}{UPPER}*{LOWER}+|{LEAD}{UPPER}+{LOWER}*|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    );
    let pattern = SplitPattern::Regex(pattern);
    let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
    Ok(PreTokenizerWrapper::Split(split.map_err(library)?))
}

/// What text may become: every token but the control tokens.
pub(super) fn vocabulary(tokens: &[String], types: &[TokenType]) -> Vocab {
    let entries = (0u32..).zip(tokens).zip(types);
    entries
        .filter(|(_, kind)| **kind != TokenType::Control)
        .map(|((id, token), _)| (token.clone(), id))
        .collect()
}

pub(super) fn of_type<'t>(
    tokens: &'t [String],
    types: &[TokenType],
    wanted: TokenType,
) -> impl Iterator<Item = &'t str> {
    let pairs = tokens.iter().zip(types);
    pairs
        .filter(move |(_, kind)| **kind == wanted)
        .map(|(token, _)| token.as_str())
}

pub(super) fn library(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Library {
        message: error.to_string(),
    }
}

/// A text from the file, short enough for an error message.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
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

fn letter_bytes(token: &str, letters: &HashMap<char, u8>) -> Vec<u8> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Words of `text`, with bytes as letters.
    fn words(pre: &str, text: &str) -> Vec<String> {
        let mut words = PreTokenizedString::from(text);
        for step in pre_tokenizer("tokenizer.ggml.pre", pre).unwrap() {
            step.pre_tokenize(&mut words).unwrap();
        }
        let words = words.get_splits(OffsetReferential::Original, OffsetType::None);
        words
            .into_iter()
            .map(|(word, ..)| word.to_owned())
            .collect()
    }

    #[test]
    fn families_split_digits_and_cases_each_in_its_way() {
        let text = "I'm HelloWorld 1234";
        let g = |words: &[&str]| {
            words
                .iter()
                .map(|w| w.replace(' ', "\u{120}"))
                .collect::<Vec<_>>()
        };
        let halves = ["I", "'m", " HelloWorld", " 1234"];
        assert_eq!(words("gpt-2", text), g(&halves));
        let digits = ["I", "'m", " HelloWorld", " ", "123", "4"];
        assert_eq!(words("llama-bpe", text), g(&digits));
        for name in ["smaug-bpe", "falcon3", "pixtral"] {
            assert_eq!(words(name, text), g(&digits));
        }
        let digits = ["I", "'m", " HelloWorld", " ", "1", "2", "3", "4"];
        for name in ["qwen2", "deepseek-r1-qwen", "megrez"] {
            assert_eq!(words(name, text), g(&digits));
        }
        assert_eq!(words("smollm", text), g(&digits));
        let cases = ["I", "'m", " Hello", "World", " ", "1", "2", "3", "4"];
        assert_eq!(words("tekken", text), g(&cases));
    }

    #[test]
    fn unknown_pre_tokenisers_are_refused_with_a_list() {
        let error = pre_tokenizer("tokenizer.ggml.pre", "martian").unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("martian") && message.contains("tekken"),
            "{message}"
        );
    }
}
