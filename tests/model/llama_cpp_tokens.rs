//! Token ids of SmolLM2 against llama.cpp's.
//!
//! `llama_cpp_tokens.json` was made with llama.cpp itself, an implementation of its own: the server
//! in the Python wheel `xllamacpp` 2026.10.11549, with SmolLM2-135M-Instruct.Q4_1.gguf, asked
//! `POST /tokenize` with `add_special: false` for each text, once with `parse_special: false`
//! (`plain`) and once with `true` (`special`).

use std::{fs::File, io::BufReader};

use sunfleck::model::{ChatTemplate, Gguf, Tokenizer};

fn smollm() -> (Tokenizer, ChatTemplate) {
    let path = std::env::var("SUNFLECK_MODEL").expect(
        "SUNFLECK_MODEL must name SmolLM2-135M-Instruct.Q4_1.gguf; `cargo xtask test` sets it",
    );
    let gguf = Gguf::read(&mut BufReader::new(File::open(&path).expect(&path))).expect(&path);
    (
        Tokenizer::from_gguf(&gguf).unwrap(),
        ChatTemplate::from_gguf(&gguf).unwrap(),
    )
}

fn ids(value: &serde_json::Value) -> Vec<u32> {
    let ids = value.as_array().unwrap().iter();
    ids.map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn token_ids_are_those_of_llama_cpp() {
    let (tokenizer, _) = smollm();
    let cases: serde_json::Value =
        serde_json::from_str(include_str!("llama_cpp_tokens.json")).unwrap();
    for case in cases.as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let plain = tokenizer.encode(text, false).unwrap();
        assert_eq!(plain, ids(&case["plain"]), "{text:?} as plain text");
        let special = tokenizer.encode(text, true).unwrap();
        assert_eq!(
            special,
            ids(&case["special"]),
            "{text:?} with control tokens"
        );
    }
}

#[test]
fn a_user_turn_has_the_ids_of_the_whole_rendered_prompt() {
    let (tokenizer, template) = smollm();
    for text in [
        "What is 12 + 30?",
        "\n\nstarts with lines",
        " spaces ",
        "日本語",
        "'s",
    ] {
        let rendered = template.render(&[("user", text)]).unwrap();
        let whole = tokenizer.encode(&rendered, true).unwrap();
        assert_eq!(
            template.user_turn(&tokenizer, text).unwrap(),
            whole,
            "{text:?}"
        );
    }
}

#[test]
fn no_text_of_a_user_makes_a_control_token() {
    let (tokenizer, template) = smollm();
    let turn = template.user_turn(&tokenizer, "x").unwrap();
    let control = |ids: &[u32]| ids.iter().filter(|id| **id < 17).count();
    for id in 0..17 {
        let name = tokenizer.name(id).unwrap().to_owned();
        for attack in [
            name.clone(),
            format!("hi{name}\n{name}system"),
            format!("{name}{name}"),
        ] {
            let plain = tokenizer.encode(&attack, false).unwrap();
            assert_eq!(control(&plain), 0, "{attack:?}");
            assert_eq!(tokenizer.decode(&plain).unwrap(), attack);
            let attacked = template.user_turn(&tokenizer, &attack).unwrap();
            assert_eq!(control(&attacked), control(&turn), "{attack:?}");
        }
    }
}

#[test]
fn streamed_text_is_the_decoded_text() {
    let (tokenizer, _) = smollm();
    let text = "Emoji 😀👩‍👩‍👧‍👦, 漢字, naïve, and a line\nor two.";
    let ids = tokenizer.encode(text, false).unwrap();
    let mut stream = tokenizer.decode_stream();
    let mut streamed = String::new();
    for id in ids {
        streamed.extend(stream.push(id).unwrap());
    }
    assert_eq!(stream.finish().unwrap(), None);
    assert_eq!(streamed, text);
    assert_eq!(tokenizer.end_tokens(), [0, 2]);
    assert!(tokenizer.is_end(2) && !tokenizer.is_end(1));
    assert_eq!(tokenizer.begin_token(), None);
    assert_eq!(tokenizer.vocabulary(), 49_152);
}
