//! What `tokenizer.json` says of a SentencePiece vocabulary: how tokens are found, and what becomes of spaces.
//!
//! There are two ways to write the same. Llama 2 and Mistral have a normaliser that puts `\u{2581}` before each text and in
//! place of each space; newer files have a pre-tokeniser of type `Metaspace`.

use serde_json::{Value as Json, json};

use super::{
    HuggingFaceError, SENTENCE_PIECE, SPACE_PREFIX, SPLIT_WORDS,
    tokenizer::{merges, refuse},
};
use crate::model::gguf::{Array, Value};

/// How SentencePiece writes a space.
const SPACE: &str = "\u{2581}";
/// ggml's number of tokens that stand for a byte.
pub(super) const BYTE: i32 = 6;

/// Whether the vocabulary is one of this kind, and not a byte-level one.
pub(super) fn is_meant(json: &Json) -> bool {
    let model = &json["model"];
    model["type"] == "Unigram"
        || model["byte_fallback"] == true
        || json["pre_tokenizer"]["type"] == "Metaspace"
}

/// Whether a token stands for a byte, such as `<0x0A>`.
pub(super) fn is_byte(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
    digits.is_some_and(|digits| {
        digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// Hands out the metadata of a vocabulary with these `tokens`.
pub(super) fn read(
    json: &Json,
    tokens: &[String],
    set: &mut dyn FnMut(&str, Value),
) -> Result<(), HuggingFaceError> {
    let model = &json["model"];
    let text = |text: &str| Value::String(text.to_owned());
    let unknown = match model["type"].as_str() {
        Some("Unigram") => {
            let scores = scores(model, tokens.len())?;
            set("tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
            set(SENTENCE_PIECE, text("unigram"));
            let id = model["unk_id"]
                .as_u64()
                .and_then(|id| u32::try_from(id).ok());
            let id = id.filter(|id| (*id as usize) < tokens.len());
            let needed = "the id of the token for what is unknown";
            Some(id.ok_or_else(|| refuse("model.unk_id", &model["unk_id"], needed))?)
        }
        _ => {
            let merges = Array::String(merges(model)?);
            set("tokenizer.ggml.merges", Value::Array(merges));
            set(SENTENCE_PIECE, text("bpe"));
            let name = model["unk_token"].as_str();
            let id = name.and_then(|name| tokens.iter().position(|token| token == name));
            id.map(|id| id as u32)
        }
    };
    if let Some(unknown) = unknown {
        set("tokenizer.ggml.unknown_token_id", Value::U32(unknown));
    }
    let (prefix, split) = spaces(&json["normalizer"], &json["pre_tokenizer"])?;
    set(SPACE_PREFIX, text(prefix));
    set(SPLIT_WORDS, Value::Bool(split));
    set("tokenizer.ggml.model", text("llama"));
    Ok(())
}

/// Logarithms of the tokens' probabilities; 0 for those that are not in the model's own list.
fn scores(model: &Json, tokens: usize) -> Result<Vec<f32>, HuggingFaceError> {
    const KEY: &str = "model.vocab";
    let list = model["vocab"].as_array();
    let list = list.ok_or_else(|| refuse(KEY, &Json::Null, "tokens with their scores"))?;
    let mut scores = vec![0.0; tokens];
    for (score, entry) in scores.iter_mut().zip(list) {
        let given = entry[1].as_f64().filter(|score| score.is_finite());
        let given = given.ok_or_else(|| refuse(KEY, entry, "a token with a finite score"))?;
        *score = given as f32;
    }
    Ok(scores)
}

/// Where a space is put that is not in the text, as [`SPACE_PREFIX`] has it, and whether words are split.
fn spaces(
    normalizer: &Json,
    pre_tokenizer: &Json,
) -> Result<(&'static str, bool), HuggingFaceError> {
    const NORMALIZER: &str = "normalizer";
    const PRE_TOKENIZER: &str = "pre_tokenizer";
    let steps = match normalizer["type"].as_str() {
        Some("Sequence") => normalizer["normalizers"]
            .as_array()
            .map_or(&[][..], Vec::as_slice),
        _ if normalizer.is_null() => &[],
        _ => std::slice::from_ref(normalizer),
    };
    let (mut prefix, mut replaces) = ("none", false);
    for step in steps {
        let replaces_spaces = step["pattern"] == json!({"String": " "}) && step["content"] == SPACE;
        match step["type"].as_str() {
            Some("Prepend") if step["prepend"] == SPACE => prefix = "sections",
            Some("Replace") if replaces_spaces => replaces = true,
            _ => {
                let needed =
                    "none, or Prepend and Replace of spaces by U+2581; give such a model as GGUF";
                return Err(refuse(NORMALIZER, &step["type"], needed));
            }
        }
    }
    if pre_tokenizer.is_null() {
        let needed = "a Replace of spaces by U+2581, or a pre_tokenizer of type Metaspace";
        return match replaces {
            true => Ok((prefix, false)),
            false => Err(refuse(NORMALIZER, normalizer, needed)),
        };
    }
    if pre_tokenizer["type"] != "Metaspace" || pre_tokenizer["replacement"] != SPACE {
        let needed = "none, or Metaspace with U+2581, beside byte_fallback or Unigram";
        return Err(refuse(PRE_TOKENIZER, pre_tokenizer, needed));
    }
    let adds = pre_tokenizer["add_prefix_space"].as_bool().unwrap_or(true);
    let scheme = match pre_tokenizer["prepend_scheme"].as_str() {
        // Files of before 2024 say no more than whether.
        None if adds => "spaced",
        None => "none",
        Some("always") => "spaced",
        Some("first") => "start",
        Some("never") => "none",
        Some(_) => {
            let given = &pre_tokenizer["prepend_scheme"];
            return Err(refuse(PRE_TOKENIZER, given, "always, first or never"));
        }
    };
    // After a normaliser that has put one there is no second.
    let prefix = match prefix {
        "none" => scheme,
        prefix => prefix,
    };
    let split = pre_tokenizer["split"].as_bool().unwrap_or(true);
    Ok((prefix, split))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llama() -> Json {
        json!({"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": SPACE},
            {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}]})
    }

    #[test]
    fn spaces_are_read_from_normaliser_or_pre_tokeniser() {
        let meta = |more: Json| {
            let mut step = json!({"type": "Metaspace", "replacement": SPACE});
            for (key, value) in more.as_object().unwrap() {
                step[key] = value.clone();
            }
            step
        };
        let none = Json::Null;
        let replace = llama()["normalizers"][1].clone();
        let read = |normalizer: &Json, pre: &Json| spaces(normalizer, pre).unwrap();
        assert_eq!(read(&llama(), &none), ("sections", false));
        assert_eq!(read(&replace, &none), ("none", false));
        let first = meta(json!({"prepend_scheme": "first", "split": false}));
        assert_eq!(read(&none, &first), ("start", false));
        assert_eq!(
            read(&none, &meta(json!({"prepend_scheme": "never"}))),
            ("none", true)
        );
        assert_eq!(
            read(&none, &meta(json!({"add_prefix_space": true}))),
            ("spaced", true)
        );
        assert_eq!(
            read(&none, &meta(json!({"add_prefix_space": false}))),
            ("none", true)
        );
        for (normalizer, pre) in [
            (none.clone(), none.clone()),
            (
                json!({"type": "Precompiled", "precompiled_charsmap": ""}),
                first.clone(),
            ),
            (json!({"type": "Lowercase"}), none.clone()),
            (llama(), json!({"type": "ByteLevel"})),
            (
                none.clone(),
                json!({"type": "Metaspace", "replacement": "_"}),
            ),
            (none.clone(), meta(json!({"prepend_scheme": "often"}))),
        ] {
            assert!(spaces(&normalizer, &pre).is_err(), "{normalizer} {pre}");
        }
    }

    #[test]
    fn byte_tokens_are_known_by_their_names() {
        assert!(is_byte("<0x0A>") && is_byte("<0xff>"));
        assert!(!is_byte("<0x0>") && !is_byte("0x0A") && !is_byte("<0xZZ>") && !is_byte("<0x+A>"));
    }
}
