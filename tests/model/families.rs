//! Each family of decoders on the GPU against the f64 decoder: prompt, chain and tree.

use sunfleck::{
    draft::NoDrafter,
    generate::GenerateOptions,
    reference::{
        blocks::BlockFormat,
        compare::{Tolerance, compare},
        decoder::{Decoder as Twin, DecoderConfig, Family},
        reduce,
    },
};

use crate::{
    adapters::on_every_adapter,
    decoder::{config, open, options, prompt},
    gguf_writer::{Extras, Storage, tiny_model},
    random::Random,
};

const STORAGE: Storage = Storage {
    matrices: BlockFormat::F32,
    odd_ones: BlockFormat::Q8_0,
    tied: false,
};

/// Each family, and what may be on top of it.
fn families() -> Vec<(&'static str, DecoderConfig, Extras)> {
    let with = |family: Family| DecoderConfig { family, ..config() };
    let halves = Family {
        rope_halves: true,
        ..Family::default()
    };
    let extras = |biases, head_norms| Extras { biases, head_norms };
    let none = Extras::default();
    vec![
        (
            "mistral: a window shorter than the prompt",
            with(Family {
                window: Some(11),
                ..Family::default()
            }),
            none,
        ),
        (
            "llama 3.1: frequencies divided by factors of the file",
            DecoderConfig {
                rope_divisors: Some(vec![1.0, 1.0, 1.5, 2.0, 6.0, 8.0]),
                ..config()
            },
            none,
        ),
        (
            "llama: positions scaled",
            with(Family {
                rope_factor: Some(4.0),
                ..Family::default()
            }),
            none,
        ),
        ("llama: biases", config(), extras(true, false)),
        ("qwen2", with(halves), extras(true, false)),
        (
            "qwen3: heads not a part of the width",
            DecoderConfig {
                head_dim: 20,
                rope_dim: 20,
                ..with(halves)
            },
            extras(false, true),
        ),
        (
            "smollm3",
            DecoderConfig {
                layers: 4,
                ..with(Family {
                    no_rope_interval: 4,
                    ..Family::default()
                })
            },
            none,
        ),
    ]
}

#[test]
fn every_family_has_the_logits_of_its_twin() {
    on_every_adapter(|gpu| {
        if !gpu.runs_models() {
            return;
        }
        for (name, config, extras) in families() {
            let mut random = Random(21);
            let (file, weights) = tiny_model(&config, STORAGE, extras, |n| random.normals(n));
            let mut twin = Twin::new(config.clone(), weights).unwrap();
            let mut session = open(&gpu.gpu, &file.bytes(), options(), Box::new(NoDrafter));
            let prompt = prompt(&mut random, 37);
            let what = format!("{} {name}", gpu.name);
            let logits = twin.forward(&prompt).unwrap();
            let mut expected = logits[(prompt.len() - 1) * config.vocab..].to_vec();
            let mut quiet = |_, _| ();
            let read = pollster::block_on(session.read_prompt(&prompt, &mut quiet)).unwrap();
            let got: Vec<f32> = gpu.read(session.decoder().logits());
            compare(&what, &got[..config.vocab], &expected, Tolerance::F32).unwrap();
            assert_eq!(Some(read as usize), reduce::argmax(&expected), "{what}");
            // Decoding goes through the kernels of chains.
            session.reset();
            let options = GenerateOptions {
                max_tokens: 6,
                end_tokens: Vec::new(),
                ..Default::default()
            };
            for token in session.generate(&prompt, options) {
                let token = token.unwrap().id;
                assert_eq!(Some(token as usize), reduce::argmax(&expected), "{what}");
                expected = twin.forward(&[token]).unwrap();
            }
        }
    });
}

#[test]
fn what_sets_a_family_apart_changes_the_logits() {
    let logits = |config: &DecoderConfig, extras| {
        let mut random = Random(21);
        let (_, weights) = tiny_model(config, STORAGE, extras, |n| random.normals(n));
        let mut twin = Twin::new(config.clone(), weights).unwrap();
        twin.forward(&prompt(&mut Random(4), 37)).unwrap()
    };
    for (name, config, extras) in families() {
        let plain = DecoderConfig {
            rope_divisors: None,
            family: Family::default(),
            ..config.clone()
        };
        let (with, without) = (logits(&config, extras), logits(&plain, Extras::default()));
        let same = compare(name, &with, &without, Tolerance::F32);
        assert!(same.is_err(), "{name}: the same as Llama");
    }
}
