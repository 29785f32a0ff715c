//! SentencePiece vocabularies in tokenizer.json: the tokens are those of the `tokenizers` crate, which reads the same file.

use std::{fs, str::FromStr};

use serde_json::{Value as Json, json};
use sunfleck::model::{Tokenizer, hugging_face};

/// Unknown, begin, end, and all bytes.
fn first_tokens() -> Vec<String> {
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let named = ["<unk>", "<s>", "</s>"].map(str::to_owned);
    named.into_iter().chain(bytes).collect()
}

const PIECES: [&str; 16] = [
    "\u{2581}",
    "h",
    "e",
    "l",
    "o",
    "w",
    "r",
    "d",
    "he",
    "ll",
    "hell",
    "hello",
    "\u{2581}hello",
    "\u{2581}w",
    "or",
    "\u{2581}wor",
];

fn added() -> Json {
    let token = |(id, content): (usize, &str)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    ["<unk>", "<s>", "</s>"]
        .into_iter()
        .enumerate()
        .map(token)
        .collect()
}

fn llama_normalizer() -> Json {
    json!({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "\u{2581}"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"}]})
}

fn metaspace(scheme: &str, split: bool) -> Json {
    json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme, "split": split})
}

fn file(normalizer: Json, pre_tokenizer: Json, model: Json) -> Json {
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added(), "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "decoder": null, "model": model,
        "post_processor": {"type": "TemplateProcessing", "pair": [], "special_tokens": {
                "<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]},
    })
}

/// Llama 2's kind: merges are listed.
fn bpe() -> Json {
    let tokens = first_tokens().into_iter().chain(PIECES.map(str::to_owned));
    let vocab: serde_json::Map<String, Json> = tokens
        .zip(0..)
        .map(|(token, id)| (token, json!(id)))
        .collect();
    // "o r" comes before "h e", and "\u{2581}w" before "w" joins another.
    let merges = [
        "o r",
        "h e",
        "l l",
        "he ll",
        "hell o",
        "\u{2581} hello",
        "\u{2581} w",
        "\u{2581}w or",
    ];
    json!({"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
           "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocab, "merges": merges})
}

fn unigram() -> Json {
    let scored = |(i, piece): (usize, String)| json!([piece, -3.0 - 0.37 * (i % 7) as f64]);
    let named = first_tokens()
        .into_iter()
        .enumerate()
        .map(|(i, token)| match i {
            0..3 => json!([token, 0.0]),
            _ => json!([token, -20.0]),
        });
    let pieces = PIECES
        .map(str::to_owned)
        .into_iter()
        .enumerate()
        .map(scored);
    let vocab: Vec<Json> = named.chain(pieces).collect();
    json!({"type": "Unigram", "unk_id": 0, "byte_fallback": true, "vocab": vocab})
}

fn open(vocabulary: &Json) -> Result<Tokenizer, String> {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({
        "model_type": "llama", "hidden_act": "silu", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "vocab_size": 275, "tie_word_embeddings": true,
    });
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    write("config.json", config.to_string().as_bytes());
    write("model.safetensors", b"\x02\0\0\0\0\0\0\0{}");
    write("tokenizer.json", vocabulary.to_string().as_bytes());
    write(
        "tokenizer_config.json",
        br#"{"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": true}"#,
    );
    let (gguf, _) = hugging_face::open(folder.path()).map_err(|error| error.to_string())?;
    Tokenizer::from_gguf(&gguf).map_err(|error| error.to_string())
}

const TEXTS: [&str; 9] = [
    "hello world",
    " hello  hello",
    "hellohello\nworld ",
    "wor\u{e9} \u{1f600}",
    "<s>hello</s> world</s>hello",
    "</s>",
    "h e l l o",
    " ",
    "\u{2581}hello",
];

#[test]
fn tokens_are_those_of_the_reference_for_every_way_of_spaces() {
    let none = Json::Null;
    let replace = llama_normalizer()["normalizers"][1].clone();
    for (name, normalizer, pre_tokenizer) in [
        ("Llama 2", llama_normalizer(), none.clone()),
        ("without a prefix", replace, none.clone()),
        ("first", none.clone(), metaspace("first", false)),
        (
            "always, words split",
            none.clone(),
            metaspace("always", true),
        ),
        ("never, words split", none.clone(), metaspace("never", true)),
    ] {
        for model in [bpe(), unigram()] {
            let json = file(normalizer.clone(), pre_tokenizer.clone(), model);
            let reference = tokenizers::Tokenizer::from_str(&json.to_string()).unwrap();
            let own = open(&json).unwrap();
            for text in TEXTS {
                let wanted = reference.encode(text, false).unwrap();
                let what = format!("{name}, {}, {text:?}", json["model"]["type"]);
                assert_eq!(own.encode(text, true).unwrap(), wanted.get_ids(), "{what}");
            }
            assert_eq!(own.begin_token(), Some(1));
            assert_eq!(own.end_tokens(), [2]);
        }
    }
}

#[test]
fn text_comes_back_and_never_becomes_a_control_token() {
    for model in [bpe(), unigram()] {
        let own = open(&file(Json::Null, metaspace("never", false), model)).unwrap();
        for text in TEXTS {
            let ids = own.encode(text, false).unwrap();
            assert!(ids.iter().all(|id| *id > 2), "{text:?}: {ids:?}");
            assert_eq!(own.decode(&ids).unwrap(), text.replace('\u{2581}', " "));
        }
    }
}

#[test]
fn what_is_not_read_is_named() {
    let fails = |json: &Json| open(json).err().unwrap();
    let precompiled = json!({"type": "Precompiled", "precompiled_charsmap": "AA=="});
    let error = fails(&file(precompiled, Json::Null, unigram()));
    assert!(
        error.contains("Precompiled") && error.contains("GGUF"),
        "{error}"
    );
    let mut model = unigram();
    model["unk_id"] = json!(4000);
    let error = fails(&file(llama_normalizer(), Json::Null, model));
    assert!(error.contains("model.unk_id"), "{error}");
    let mut model = unigram();
    model["vocab"][5][1] = json!("much");
    let error = fails(&file(llama_normalizer(), Json::Null, model));
    assert!(error.contains("finite score"), "{error}");
    let mut model = bpe();
    model["merges"] = json!(["no such"]);
    fails(&file(llama_normalizer(), Json::Null, model));
}
