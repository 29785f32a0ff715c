//! Each family of decoders on the GPU against the f64 decoder: prompt, chain and tree.

use sunfleck::{
    draft::NoDrafter,
    generate::GenerateOptions,
    model::DecoderOptions,
    reference::{
        blocks::BlockFormat,
        compare::{Tolerance, compare},
        decoder::{Decoder as Twin, DecoderConfig, Family},
        reduce,
        rope::yarn_divisors,
    },
};

use crate::{
    adapters::on_every_adapter,
    decoder::{config, open, options, prompt},
    gguf_writer::{Extras, GgufWriter, Storage, Value, tiny_model},
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

#[test]
fn yarn_and_long_rope_have_the_logits_of_their_twin() {
    on_every_adapter(|gpu| {
        if !gpu.runs_models() {
            return;
        }
        let set = |file: &mut GgufWriter, key: &str, value| {
            file.set(&format!("llama.rope.scaling.{key}"), value);
        };
        for (name, context) in [("yarn", 160), ("longrope", 160), ("longrope", 40)] {
            let mut random = Random(22);
            let (mut file, weights) =
                tiny_model(&config(), STORAGE, Extras::default(), |n| random.normals(n));
            set(&mut file, "type", Value::Text(name.into()));
            set(&mut file, "original_context_length", Value::U32(64));
            let (divisors, magnitude) = match name {
                "yarn" => {
                    set(&mut file, "factor", Value::F32(8.0));
                    let divisors = yarn_divisors(12, 10_000.0, 8.0, 64, [32.0, 1.0]);
                    assert!(
                        divisors.iter().any(|d| *d > 1.0 && *d < 8.0),
                        "{divisors:?}"
                    );
                    (divisors, 1.0 + 0.1 * 8f64.ln())
                }
                _ => {
                    let lists = [
                        [1.0f32, 1.5, 2.0, 2.5, 3.0, 3.5],
                        [1.0, 2.0, 4.0, 8.0, 16.0, 32.0],
                    ];
                    for (name, list) in ["short", "long"].into_iter().zip(&lists) {
                        let bytes = list.iter().flat_map(|v| v.to_le_bytes()).collect();
                        let name = format!("rope_factors_{name}.weight");
                        file.tensors.push((name, vec![6], 0, bytes));
                    }
                    // The long list is for contexts of more tokens than the original one.
                    let list = lists[usize::from(context > 64)].map(f64::from);
                    (list.to_vec(), (1.0 + 8f64.ln() / 64f64.ln()).sqrt())
                }
            };
            let stretched = DecoderConfig {
                rope_divisors: Some(divisors),
                family: Family {
                    rope_magnitude: Some(magnitude),
                    ..Family::default()
                },
                ..config()
            };
            let options = DecoderOptions {
                context,
                ..options()
            };
            let mut twin = Twin::new(stretched, weights).unwrap();
            let mut session = open(&gpu.gpu, &file.bytes(), options, Box::new(NoDrafter));
            let prompt = prompt(&mut random, 37);
            let logits = twin.forward(&prompt).unwrap();
            let expected = &logits[(prompt.len() - 1) * 130..];
            pollster::block_on(session.read_prompt(&prompt, &mut |_, _| ())).unwrap();
            let got: Vec<f32> = gpu.read(session.decoder().logits());
            let what = format!("{} {name} {context}", gpu.name);
            compare(&what, &got[..130], expected, Tolerance::F32).unwrap();
        }
    });
}
