//! `tokenizer.json` and `tokenizer_config.json`: a byte-level BPE vocabulary or a SentencePiece one, as GGUF's metadata has it.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::{HuggingFaceError, IGNORE_MERGES, NORMAL_FORM_C, PRE_TOKENIZER, sentence_piece};
use crate::model::gguf::{Array, Value};

const FILE: &str = "tokenizer.json";
/// ggml's numbers of token types.
const TEXT: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
/// Most token ids, as many as embeddings may have rows.
const MAX_TOKENS: u64 = 1 << 24;

/// The files that say something about text.
pub(super) struct Sources<'j> {
    pub vocabulary: &'j Json,
    pub settings: &'j Json,
    pub configuration: &'j Json,
    /// A template in a file of its own, which comes before one in the settings.
    pub template: Option<String>,
}

/// Reads the vocabulary into GGUF's metadata.
pub(super) fn read(
    sources: &Sources<'_>,
    metadata: &mut HashMap<String, Value>,
) -> Result<(), HuggingFaceError> {
    let json = sources.vocabulary;
    let model = &json["model"];
    // Files of before 2021 don't say.
    if !matches!(model["type"].as_str(), None | Some("BPE") | Some("Unigram")) {
        return Err(refuse("model.type", &model["type"], "BPE or Unigram"));
    }
    let (tokens, types) = tokens(json, sources.configuration)?;
    let mut set = |key: &str, value: Value| {
        metadata.insert(key.to_owned(), value);
    };
    match sentence_piece::is_meant(json) {
        true => sentence_piece::read(json, &tokens, &mut set)?,
        false => byte_level(json, &mut set)?,
    }

    let ids: HashMap<&str, u32> = tokens.iter().map(String::as_str).zip(0u32..).collect();
    // A token by itself, or with its options.
    let named = |key: &str| {
        let value = &sources.settings[key];
        let name = value.as_str().or_else(|| value["content"].as_str());
        name.and_then(|name| ids.get(name).copied())
    };
    let begins = template_begin(&json["post_processor"]);
    let begin = named("bos_token").or_else(|| ids.get(begins?).copied());
    if let Some(begin) = begin {
        set("tokenizer.ggml.bos_token_id", Value::U32(begin));
    }
    let adds = sources.settings["add_bos_token"].as_bool();
    let adds = adds.unwrap_or(begins.is_some());
    set("tokenizer.ggml.add_bos_token", Value::Bool(adds));

    let mut ends: Vec<u32> = named("eos_token").into_iter().collect();
    let more = &sources.configuration["eos_token_id"];
    let more = more
        .as_array()
        .map_or(std::slice::from_ref(more), Vec::as_slice);
    for id in more.iter().filter_map(Json::as_u64) {
        let id = u32::try_from(id).unwrap_or(u32::MAX);
        if !ends.contains(&id) && (id as usize) < tokens.len() {
            ends.push(id);
        }
    }
    for (name, id) in ["eos", "eot", "eom"].into_iter().zip(ends) {
        set(&format!("tokenizer.ggml.{name}_token_id"), Value::U32(id));
    }
    let template = sources.template.clone();
    if let Some(template) = template.or_else(|| template_text(&sources.settings["chat_template"])) {
        set("tokenizer.chat_template", Value::String(template));
    }
    let ignore = model["ignore_merges"].as_bool().unwrap_or(false);
    set(IGNORE_MERGES, Value::Bool(ignore));
    for (key, array) in [
        ("tokens", Array::String(tokens)),
        ("token_type", Array::I32(types)),
    ] {
        set(&format!("tokenizer.ggml.{key}"), Value::Array(array));
    }
    Ok(())
}

/// Hands out what is said of a byte-level vocabulary alone.
fn byte_level(json: &Json, set: &mut dyn FnMut(&str, Value)) -> Result<(), HuggingFaceError> {
    let normalizer = &json["normalizer"];
    // Others are not for byte-level vocabularies.
    if !normalizer.is_null() && normalizer["type"] != "NFC" {
        return Err(refuse("normalizer", &normalizer["type"], "none, or NFC"));
    }
    let pre_tokenizer = &json["pre_tokenizer"];
    if !has_type(pre_tokenizer, "pretokenizers", "ByteLevel") {
        let needed = "one with a step of type ByteLevel, or Metaspace";
        return Err(refuse("pre_tokenizer", &pre_tokenizer["type"], needed));
    }
    let merges = Array::String(merges(&json["model"])?);
    set("tokenizer.ggml.merges", Value::Array(merges));
    set(NORMAL_FORM_C, Value::Bool(!normalizer.is_null()));
    set(PRE_TOKENIZER, Value::String(pre_tokenizer.to_string()));
    set("tokenizer.ggml.model", Value::String("gpt2".to_owned()));
    Ok(())
}

pub(super) fn refuse(key: &str, given: &Json, needed: &str) -> HuggingFaceError {
    HuggingFaceError::Value {
        file: FILE,
        key: key.to_owned(),
        given: match given {
            Json::Null => "missing".to_owned(),
            given => given.to_string().chars().take(64).collect(),
        },
        needed: needed.to_owned(),
    }
}

/// Whether `step` is of this type, or a sequence (its steps under `list`) with one that is.
fn has_type(step: &Json, list: &str, wanted: &str) -> bool {
    let is = |step: &Json| step["type"] == wanted;
    is(step) || (step[list].as_array()).is_some_and(|steps| steps.iter().any(is))
}

/// Tokens by id, and ggml's types of them. Ids up to the model's vocabulary that have no token get a control token, which
/// has no text.
fn tokens(json: &Json, configuration: &Json) -> Result<(Vec<String>, Vec<i32>), HuggingFaceError> {
    const VOCAB: &str = "model.vocab";
    let vocab = &json["model"]["vocab"];
    let mut entries = Vec::new();
    let meant = sentence_piece::is_meant(json);
    let kind = |token: &str| match meant && sentence_piece::is_byte(token) {
        true => sentence_piece::BYTE,
        false => TEXT,
    };
    if let Some(list) = vocab.as_array() {
        // Of Unigram: tokens with their scores, in the order of their ids.
        for (id, entry) in (0..MAX_TOKENS).zip(list) {
            let token = entry[0].as_str();
            let token = token.ok_or_else(|| refuse(VOCAB, entry, "tokens with their scores"))?;
            entries.push((id, token, kind(token)));
        }
    } else {
        let vocab = vocab.as_object();
        let vocab = vocab.ok_or_else(|| refuse(VOCAB, &Json::Null, "tokens with their ids"))?;
        for (token, id) in vocab {
            let number = (id.as_u64()).filter(|id| *id < MAX_TOKENS);
            let number = number.ok_or_else(|| refuse(VOCAB, id, "ids below 2^24"))?;
            entries.push((number, token.as_str(), kind(token)));
        }
    }
    let added = json["added_tokens"].as_array().map(Vec::as_slice);
    for token in added.unwrap_or_default() {
        let id = token["id"].as_u64().filter(|id| *id < MAX_TOKENS);
        let (Some(id), Some(content)) = (id, token["content"].as_str()) else {
            let needed = "tokens with `content` and an `id` below 2^24";
            return Err(refuse("added_tokens", token, needed));
        };
        let kind = match token["special"].as_bool() {
            Some(true) => CONTROL,
            _ => USER_DEFINED,
        };
        entries.push((id, content, kind));
    }
    let known = entries.iter().map(|(id, ..)| id + 1).max().unwrap_or(0);
    let rows = configuration["vocab_size"].as_u64().unwrap_or(0);
    let count = known.max(rows.min(MAX_TOKENS)) as usize;
    let mut tokens = vec![String::new(); count];
    let mut types = vec![0; count];
    // Added tokens come last: they say what a token of the vocabulary is for.
    for (id, token, kind) in entries {
        let id = id as usize;
        if types[id] != 0 && tokens[id] != token {
            let needed = format!("one token for the id {id}, which has {:?} too", tokens[id]);
            return Err(refuse(VOCAB, &Json::from(token), &needed));
        }
        tokens[id] = token.to_owned();
        types[id] = kind;
    }
    for (id, (token, kind)) in tokens.iter_mut().zip(&mut types).enumerate() {
        if *kind == 0 {
            *token = format!("[PAD{id}]");
            *kind = CONTROL;
        }
    }
    Ok((tokens, types))
}

/// Merges as GGUF writes them: two tokens with a space between.
pub(super) fn merges(model: &Json) -> Result<Vec<String>, HuggingFaceError> {
    const KEY: &str = "model.merges";
    let list = model["merges"].as_array();
    let list = list.ok_or_else(|| refuse(KEY, &Json::Null, "a list of merges"))?;
    let mut merges = Vec::new();
    for merge in list {
        let text = match merge.as_array().map(Vec::as_slice) {
            Some([left, right]) => (left.as_str())
                .zip(right.as_str())
                .map(|(left, right)| format!("{left} {right}")),
            _ => merge.as_str().map(str::to_owned),
        };
        merges.push(text.ok_or_else(|| refuse(KEY, merge, "two tokens each"))?);
    }
    Ok(merges)
}

/// The control token that the post-processor puts before a text, if it does.
fn template_begin(post: &Json) -> Option<&str> {
    let template = |step: &&Json| step["type"] == "TemplateProcessing";
    let steps = post["processors"].as_array().map(Vec::as_slice);
    let mut steps = steps.unwrap_or(std::slice::from_ref(post)).iter();
    let first = &steps.find(template)?["single"][0];
    first["SpecialToken"]["id"].as_str()
}

/// A chat template: a text, or the one called `default` of several.
fn template_text(value: &Json) -> Option<String> {
    let default = |entry: &&Json| entry["name"] == "default";
    let several = || value.as_array()?.iter().find(default)?["template"].as_str();
    value.as_str().or_else(several).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn vocabulary() -> Json {
        json!({
            "added_tokens": [
                {"id": 3, "content": "<|begin|>", "special": true},
                {"id": 2, "content": "ab", "special": false},
            ],
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel", "add_prefix_space": false,
                "trim_offsets": true, "use_regex": true}]},
            "post_processor": {"type": "Sequence", "processors": [{"type": "ByteLevel"}, {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<|begin|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]}]},
            "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
        })
    }

    fn read_all(vocabulary: &Json) -> Result<HashMap<String, Value>, HuggingFaceError> {
        let sources = Sources {
            vocabulary,
            settings: &json!({"eos_token": {"content": "ab"}, "chat_template": [
                {"name": "tools", "template": "no"}, {"name": "default", "template": "yes"}]}),
            configuration: &json!({"vocab_size": 6, "eos_token_id": [2, 1]}),
            template: None,
        };
        let mut metadata = HashMap::new();
        read(&sources, &mut metadata).map(|()| metadata)
    }

    #[test]
    fn tokens_types_and_merges_become_those_of_gguf() {
        let m = read_all(&vocabulary()).unwrap();
        let m = |key: &str| m[&format!("tokenizer.{key}")].clone();
        let names = ["a", "b", "ab", "<|begin|>", "[PAD4]", "[PAD5]"].map(str::to_owned);
        assert_eq!(m("ggml.tokens"), Value::Array(Array::String(names.into())));
        let types = vec![1, 1, 4, 3, 3, 3];
        assert_eq!(m("ggml.token_type"), Value::Array(Array::I32(types)));
        let merges = vec!["a b".to_owned()];
        assert_eq!(m("ggml.merges"), Value::Array(Array::String(merges)));
        assert_eq!(m("ggml.bos_token_id"), Value::U32(3));
        assert_eq!(m("ggml.add_bos_token"), Value::Bool(true));
        assert_eq!(m("ggml.eos_token_id"), Value::U32(2));
        assert_eq!(m("ggml.eot_token_id"), Value::U32(1));
        assert_eq!(m("chat_template"), Value::String("yes".to_owned()));
        let normal_form = |json: &Json| read_all(json).unwrap()[NORMAL_FORM_C].clone();
        assert_eq!(normal_form(&vocabulary()), Value::Bool(true));
        let mut plain = vocabulary();
        plain["normalizer"] = Json::Null;
        assert_eq!(normal_form(&plain), Value::Bool(false));
    }

    #[test]
    fn other_kinds_and_damage_are_refused_by_key() {
        for (pointer, value, word) in [
            ("/model/type", json!("WordPiece"), "model.type"),
            ("/model/type", json!("Unigram"), "model.vocab"),
            ("/model/byte_fallback", json!(true), "normalizer"),
            ("/normalizer/type", json!("Lowercase"), "normalizer"),
            (
                "/pre_tokenizer",
                json!({"type": "Whitespace"}),
                "\"Whitespace",
            ),
            ("/model/vocab/a", json!(-1), "model.vocab"),
            ("/model/vocab/a", json!(1u64 << 40), "model.vocab"),
            ("/model/vocab/a", json!(1), "one token"),
            ("/model/merges/0", json!(["a"]), "model.merges"),
            ("/model/merges", json!(null), "model.merges"),
            ("/added_tokens/0/id", json!("x"), "added_tokens"),
        ] {
            let mut json = vocabulary();
            json["model"]["byte_fallback"] = json!(false);
            *json.pointer_mut(pointer).unwrap() = value;
            let error = read_all(&json).unwrap_err();
            assert!(error.to_string().contains(word), "{pointer}: {error}");
        }
    }
}
