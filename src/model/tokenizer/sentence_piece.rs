//! Vocabularies of SentencePiece (Kudo and Richardson 2018): BPE whose merges are ordered by scores (Llama 2 as GGUF) or listed
//! (tokenizer.json), and unigram models (Kudo 2018), which take the likeliest way to cut a text. What has no token is
//! written in bytes.

use std::collections::{HashMap, HashSet};

use tokenizers::models::{
    bpe::{BPE, Merges},
    unigram::Unigram,
};

use super::{
    TokenType, TokenizerError, check_length,
    pieces::{Pieces, Place, Rule, library, of_type, shortened, vocabulary},
    special_token,
};
use crate::model::{
    Gguf, GgufError,
    hugging_face::{IGNORE_MERGES, SENTENCE_PIECE, SPACE_PREFIX, SPLIT_WORDS},
};

/// How SentencePiece writes a space.
pub(super) const SPACE: char = '\u{2581}';

/// Where a space is put that is not in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prefix {
    Never,
    /// Before each text between control tokens.
    Sections,
    /// Likewise, unless it begins with one.
    Spaced,
    /// At the start alone, unless there is one.
    Start,
}

/// What becomes of spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spaces {
    prefix: Prefix,
    split: bool,
}

impl Spaces {
    fn from_gguf(gguf: &Gguf) -> Result<Self, TokenizerError> {
        const PREFIX: &str = "tokenizer.ggml.add_space_prefix";
        let prefix = match (gguf.get(SPACE_PREFIX), gguf.get(PREFIX)) {
            (Some(value), _) => match value.as_str(SPACE_PREFIX)? {
                "none" => Prefix::Never,
                "sections" => Prefix::Sections,
                "spaced" => Prefix::Spaced,
                "start" => Prefix::Start,
                other => {
                    return Err(TokenizerError::Kind {
                        key: SPACE_PREFIX,
                        found: shortened(other),
                        supported: "none, sections, spaced and start",
                    });
                }
            },
            (None, Some(value)) if !value.as_bool(PREFIX)? => Prefix::Never,
            _ => Prefix::Sections,
        };
        let split = match gguf.get(SPLIT_WORDS) {
            Some(value) => value.as_bool(SPLIT_WORDS)?,
            None => false,
        };
        Ok(Self { prefix, split })
    }

    /// `text` with marks for spaces.
    pub(super) fn marked(self, text: &str, place: Place) -> String {
        let mut marked = text.replace(' ', "\u{2581}");
        let puts = match self.prefix {
            Prefix::Never => false,
            Prefix::Sections => true,
            Prefix::Spaced => !marked.starts_with(SPACE),
            Prefix::Start => place == Place::Start && !marked.starts_with(SPACE),
        };
        if puts {
            marked.insert(0, SPACE);
        }
        marked
    }

    /// The parts that are encoded on their own: each begins with the mark of its space, where words are split.
    pub(super) fn words(self, marked: &str) -> impl Iterator<Item = &str> {
        let mut rest = marked;
        std::iter::from_fn(move || {
            let first = rest.chars().next()?.len_utf8();
            let end = match self.split {
                true => rest[first..].find(SPACE).map(|at| first + at),
                false => None,
            };
            let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
            rest = after;
            Some(word)
        })
    }
}

/// Reads the vocabulary of a file.
pub(super) fn read(
    gguf: &Gguf,
    tokens: &[String],
    types: &[TokenType],
) -> Result<Pieces, TokenizerError> {
    let spaces = Spaces::from_gguf(gguf)?;
    let kind = match gguf.get(SENTENCE_PIECE) {
        Some(value) => value.as_str(SENTENCE_PIECE)?,
        None => "scored",
    };
    let words = match kind {
        "unigram" => unigram(gguf, tokens, types)?.into(),
        "bpe" => bpe(gguf, tokens, types, listed(gguf)?)?.into(),
        _ => bpe(gguf, tokens, types, scored(gguf, tokens, types)?)?.into(),
    };
    let rule = Rule::SentencePiece(spaces);
    Ok(Pieces { words, rule })
}

fn scores<'g>(gguf: &'g Gguf, tokens: &[String]) -> Result<&'g [f32], TokenizerError> {
    const SCORES: &str = "tokenizer.ggml.scores";
    let scores = match gguf.get(SCORES) {
        Some(value) => value.as_f32s(SCORES)?,
        None => {
            let (key, expected) = (SCORES.to_owned(), "an array of F32");
            return Err(GgufError::KeyMissing { key, expected }.into());
        }
    };
    check_length("scores", scores.len(), tokens.len())?;
    Ok(scores)
}

/// The merges of the file, first ones first.
fn listed(gguf: &Gguf) -> Result<Merges, TokenizerError> {
    let mut merges = Merges::new();
    for (index, merge) in gguf.strings("tokenizer.ggml.merges")?.iter().enumerate() {
        // Spaces are marked, so that there is none in a token.
        let parts = merge.split_once(' ');
        let Some((left, right)) = parts.filter(|(_, right)| !right.contains(' ')) else {
            let merge = shortened(merge);
            return Err(TokenizerError::Merge { index, merge });
        };
        merges.push((left.to_owned(), right.to_owned()));
    }
    Ok(merges)
}

/// A merge's priority is the score of what it makes.
fn scored(gguf: &Gguf, tokens: &[String], types: &[TokenType]) -> Result<Merges, TokenizerError> {
    let scores = scores(gguf, tokens)?;
    // Neither control nor byte tokens are spelled by text, nor parts of what is.
    let spelled = |kind: TokenType| matches!(kind, TokenType::Text | TokenType::UserDefined);
    let ids: HashMap<&str, usize> = tokens
        .iter()
        .enumerate()
        .filter(|(id, _)| spelled(types[*id]))
        .map(|(id, token)| (token.as_str(), id))
        .collect();
    let mut merges: Vec<(f32, [usize; 2], (&str, &str))> = Vec::new();
    for (id, token) in tokens.iter().enumerate() {
        if ids.get(token.as_str()) != Some(&id) {
            continue;
        }
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if let (Some(l), Some(r)) = (ids.get(left), ids.get(right)) {
                merges.push((scores[id], [*l, *r], (left, right)));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let merges = merges.into_iter();
    Ok(merges
        .map(|(_, _, (left, right))| (left.to_owned(), right.to_owned()))
        .collect())
}

fn bpe(
    gguf: &Gguf,
    tokens: &[String],
    types: &[TokenType],
    mut merges: Merges,
) -> Result<BPE, TokenizerError> {
    let mut vocabulary = vocabulary(tokens, types);
    // A merge must not spell a control token out of text; of two equal ones the first counts.
    let control: HashSet<&str> = of_type(tokens, types, TokenType::Control).collect();
    let mut seen = HashSet::new();
    merges.retain(|(left, right)| {
        let makes = format!("{left}{right}");
        !control.contains(makes.as_str()) && seen.insert((left.clone(), right.clone()))
    });
    let ignore_merges = match gguf.get(IGNORE_MERGES) {
        Some(value) => value.as_bool(IGNORE_MERGES)?,
        None => false,
    };
    let mut builder = BPE::builder().fuse_unk(true).byte_fallback(true);
    // For vocabularies that lack a token for some byte.
    if let Some(unknown) = special_token(gguf, "unknown", tokens.len())? {
        let name = tokens[unknown as usize].clone();
        vocabulary.insert(name.clone(), unknown);
        builder = builder.unk_token(name);
    }
    builder
        .vocab_and_merges(vocabulary, merges)
        .ignore_merges(ignore_merges)
        .build()
        .map_err(library)
}

fn unigram(gguf: &Gguf, tokens: &[String], types: &[TokenType]) -> Result<Unigram, TokenizerError> {
    let scores = scores(gguf, tokens)?;
    let entries = (tokens.iter().zip(types)).zip(scores).enumerate();
    let entries = entries.map(|(id, ((token, kind), score))| {
        // Text has marks for its spaces, so a name with a space in it is never found: no text spells a control token.
        let name = match kind {
            TokenType::Control => format!(" {id}"),
            _ => token.clone(),
        };
        let score = if score.is_finite() { *score } else { f32::MIN };
        (name, f64::from(score))
    });
    let unknown = special_token(gguf, "unknown", tokens.len())?;
    let needed = || TokenizerError::Library {
        message: "a unigram vocabulary needs a token for what is unknown".to_owned(),
    };
    let unknown = unknown.ok_or_else(needed)? as usize;
    Unigram::from(entries.collect(), Some(unknown), true).map_err(library)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_are_put_and_split_as_the_file_says() {
        let with = |prefix, split| Spaces { prefix, split };
        let marked = |prefix, text, place| with(prefix, false).marked(text, place);
        let (start, after) = (Place::Start, Place::AfterNamed);
        for (prefix, text, place, wanted) in [
            (Prefix::Never, "a b", start, "a\u{2581}b"),
            (Prefix::Sections, " a", after, "\u{2581}\u{2581}a"),
            (Prefix::Spaced, " a", after, "\u{2581}a"),
            (Prefix::Spaced, "a", after, "\u{2581}a"),
            (Prefix::Start, "a", start, "\u{2581}a"),
            (Prefix::Start, "a", after, "a"),
        ] {
            assert_eq!(marked(prefix, text, place), wanted, "{prefix:?} {text:?}");
        }
        let words = |split, text| with(Prefix::Never, split).words(text).collect::<Vec<_>>();
        assert_eq!(words(false, "\u{2581}a\u{2581}b"), ["\u{2581}a\u{2581}b"]);
        assert_eq!(
            words(true, "\u{2581}a\u{2581}\u{2581}b"),
            ["\u{2581}a", "\u{2581}", "\u{2581}b"]
        );
        assert_eq!(words(true, "ab"), ["ab"]);
        assert!(words(true, "").is_empty());
    }
}
