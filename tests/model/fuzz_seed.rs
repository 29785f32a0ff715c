//! The seed of the fuzz target is a sound, complete model, and the one that the writer makes.

use std::io::Cursor;

use sunfleck::{
    model::{ChatTemplate, Gguf, Hyperparameters, Tokenizer},
    reference::{blocks::BlockFormat, decoder::DecoderConfig},
};

use crate::{
    gguf_writer::{Storage, Value, tiny_llama},
    text::byte_level,
};

/// One layer, a byte-level vocabulary, and a chat template.
fn seed() -> Vec<u8> {
    let vocabulary = byte_level();
    let config = DecoderConfig {
        layers: 1,
        width: 32,
        heads: 2,
        kv_heads: 1,
        head_dim: 16,
        ff: 32,
        vocab: 260,
        rope_base: 10_000.0,
        rope_dim: 16,
        rope_divisors: None,
        eps: 1e-5,
        family: Default::default(),
    };
    let storage = Storage {
        matrices: BlockFormat::Q4_0,
        odd_ones: BlockFormat::Q4_1,
        tied: true,
    };
    // Weights by a rule that every platform rounds alike.
    let weights = |n| (0..n).map(|i| (i % 13) as f32 - 6.0).collect();
    let (mut file, _) = tiny_llama(&config, storage, weights);
    file.metadata.extend(vocabulary.metadata);
    let template =
        "{% for m in messages %}<|im_start|>{{ m.content | trim }}<|im_end|>{% endfor %}";
    file.set("tokenizer.chat_template", Value::Text(template.into()));
    file.bytes()
}

#[test]
fn the_fuzz_seed_is_current() {
    if std::env::var_os("SUNFLECK_WRITE_SEEDS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/tiny.gguf");
        return std::fs::write(path, seed()).unwrap();
    }
    // Compiled in: a packed test program runs where there is no clone.
    let stored = include_bytes!("../../fuzz/seeds/tiny.gguf");
    assert!(
        stored == seed().as_slice(),
        "fuzz/seeds/tiny.gguf is out of date: run this test with SUNFLECK_WRITE_SEEDS=1"
    );
}

#[test]
fn the_fuzz_seed_is_accepted_as_a_whole() {
    let gguf = Gguf::read(&mut Cursor::new(seed())).unwrap();
    let hyperparameters = Hyperparameters::from_gguf(&gguf).unwrap();
    hyperparameters.check_tensors(&gguf).unwrap();
    let tokenizer = Tokenizer::from_gguf(&gguf).unwrap();
    let template = ChatTemplate::from_gguf(&gguf).unwrap();
    let ids = template.user_turn(&tokenizer, " hello ").unwrap();
    assert_eq!(ids, [258, 257, b'l'.into(), b'o'.into(), 259]);
}
