//! Folders with `config.json` and safetensors files: the models in them are those of their GGUF twins.

use std::{fs, path::Path};

use serde_json::{Map, Value as Json, json};
use sunfleck::{
    draft::NoDrafter,
    generate::Session,
    model::{
        Decoder, Hyperparameters, Tokenizer,
        hugging_face::{self, HuggingFaceError},
    },
    reference::{
        blocks::BlockFormat,
        compare::{Tolerance, compare},
        decoder::{Decoder as Twin, DecoderConfig, Family},
    },
};
use tempfile::TempDir;

use crate::{
    adapters::on_every_adapter,
    decoder::{config, open, options, prompt},
    gguf_writer::{Extras, GgufWriter, Storage, tiny_model},
    random::Random,
    text::byte_level,
};

/// A model as both kinds of files have it.
struct Case {
    name: &'static str,
    model_type: &'static str,
    config: DecoderConfig,
    extras: Extras,
    format: BlockFormat,
    tied: bool,
    /// Files of weights.
    files: usize,
    settings: Json,
}

fn halves() -> Family {
    Family {
        rope_halves: true,
        ..Family::default()
    }
}

fn cases() -> Vec<Case> {
    let whole_heads = DecoderConfig {
        rope_dim: 16,
        ..config()
    };
    let case = |name, model_type, config: &DecoderConfig, format| Case {
        name,
        model_type,
        config: config.clone(),
        extras: Extras::default(),
        format,
        tied: false,
        files: 1,
        settings: json!({}),
    };
    let with = |family| DecoderConfig {
        family,
        ..whole_heads.clone()
    };
    let window = Family {
        window: Some(11),
        ..Family::default()
    };
    let every_fourth = Family {
        no_rope_interval: 4,
        ..Family::default()
    };
    let scaled = DecoderConfig {
        rope_divisors: Some(stretched(16, 10_000.0)),
        ..whole_heads.clone()
    };
    let qwen3 = DecoderConfig {
        head_dim: 20,
        rope_dim: 20,
        ..with(halves())
    };
    let smollm3 = DecoderConfig {
        layers: 4,
        ..with(every_fourth)
    };
    vec![
        case("llama", "llama", &whole_heads, BlockFormat::F32),
        Case {
            tied: true,
            settings: json!({"rope_scaling": {
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }}),
            ..case("llama 3.1", "llama", &scaled, BlockFormat::Bf16)
        },
        Case {
            settings: json!({"sliding_window": 11}),
            ..case("mistral", "mistral", &with(window), BlockFormat::Bf16)
        },
        Case {
            extras: Extras {
                biases: true,
                head_norms: false,
            },
            settings: json!({"sliding_window": 11, "use_sliding_window": false}),
            ..case("qwen2", "qwen2", &with(halves()), BlockFormat::F16)
        },
        Case {
            extras: Extras {
                biases: false,
                head_norms: true,
            },
            files: 3,
            ..case("qwen3", "qwen3", &qwen3, BlockFormat::F32)
        },
        case("smollm3", "smollm3", &smollm3, BlockFormat::F16),
    ]
}

/// Llama 3.1's divisors for a factor of 8 and a context of 64: none for waves under 16 tokens, all of it for waves over 64.
fn stretched(head: usize, base: f64) -> Vec<f64> {
    let divisor = |pair: usize| {
        let wave = std::f64::consts::TAU * base.powf(2.0 * pair as f64 / head as f64);
        let divisor = match wave {
            wave if wave < 16.0 => 1.0,
            wave if wave > 64.0 => 8.0,
            wave => {
                let smooth = (64.0 / wave - 1.0) / 3.0;
                8.0 / (1.0 - smooth + 8.0 * smooth)
            }
        };
        f64::from(divisor as f32)
    };
    (0..head / 2).map(divisor).collect()
}

/// The name in `transformers`.
fn name(gguf: &str) -> String {
    let parts: Vec<_> = gguf.split('.').collect();
    match parts.as_slice() {
        ["token_embd", _] => "model.embed_tokens.weight".to_owned(),
        ["output_norm", _] => "model.norm.weight".to_owned(),
        ["output", _] => "lm_head.weight".to_owned(),
        ["blk", layer, part, kind] => {
            let part = match *part {
                "attn_norm" => "input_layernorm",
                "attn_q" => "self_attn.q_proj",
                "attn_k" => "self_attn.k_proj",
                "attn_v" => "self_attn.v_proj",
                "attn_output" => "self_attn.o_proj",
                "attn_q_norm" => "self_attn.q_norm",
                "attn_k_norm" => "self_attn.k_norm",
                "ffn_norm" => "post_attention_layernorm",
                "ffn_gate" => "mlp.gate_proj",
                "ffn_up" => "mlp.up_proj",
                "ffn_down" => "mlp.down_proj",
                other => panic!("{other}"),
            };
            format!("model.layers.{layer}.{part}.{kind}")
        }
        _ => panic!("{gguf}"),
    }
}

/// Rows of a head with neighbouring pairs, in the order of a head with halves.
fn unpermuted(data: &[u8], rows: usize, head: usize) -> Vec<u8> {
    let row = data.len() / rows;
    let mut out = Vec::new();
    for first in (0..rows).step_by(head) {
        for half in 0..2 {
            for pair in 0..head / 2 {
                let from = (first + 2 * pair + half) * row;
                out.extend(&data[from..from + row]);
            }
        }
    }
    out
}

type Tensor = (String, &'static str, Vec<u64>, Vec<u8>);

fn tensors(case: &Case, file: &GgufWriter) -> Vec<Tensor> {
    let permuted = !case.config.family.rope_halves;
    let kept = file.tensors.iter().filter(|t| t.0 != "rope_freqs.weight");
    kept.map(|(gguf, shape, kind, data)| {
        let dtype = match kind {
            0 => "F32",
            1 => "F16",
            30 => "BF16",
            other => panic!("{other}"),
        };
        let projection = gguf.contains("attn_q.") || gguf.contains("attn_k.");
        let data = match permuted && projection {
            true => unpermuted(data, shape[1] as usize, case.config.head_dim),
            false => data.clone(),
        };
        let shape = shape.iter().rev().copied().collect();
        (name(gguf), dtype, shape, data)
    })
    .collect()
}

fn write_safetensors(path: &Path, tensors: &[Tensor]) {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut data: Vec<u8> = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        let begin = data.len();
        data.extend(bytes);
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, data.len()]});
        header.insert(name.clone(), entry);
    }
    let header = Json::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    fs::write(path, bytes).unwrap();
}

fn write_folder(case: &Case, file: &GgufWriter) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let c = &case.config;
    let mut settings = json!({
        "model_type": case.model_type, "hidden_act": "silu", "hidden_size": c.width, "intermediate_size": c.ff,
        "num_hidden_layers": c.layers, "num_attention_heads": c.heads, "num_key_value_heads": c.kv_heads,
        "head_dim": c.head_dim, "max_position_embeddings": 512, "rms_norm_eps": c.eps, "rope_theta": c.rope_base,
        "vocab_size": c.vocab, "tie_word_embeddings": case.tied,
    });
    for (key, value) in case.settings.as_object().unwrap() {
        settings[key] = value.clone();
    }
    fs::write(folder.path().join("config.json"), settings.to_string()).unwrap();
    let tensors = tensors(case, file);
    if case.files == 1 {
        write_safetensors(&folder.path().join("model.safetensors"), &tensors);
        return folder;
    }
    let mut map = Map::new();
    for (i, part) in tensors
        .chunks(tensors.len().div_ceil(case.files))
        .enumerate()
    {
        let name = format!("model-{:05}-of-{:05}.safetensors", i + 1, case.files);
        write_safetensors(&folder.path().join(&name), part);
        map.extend((part.iter()).map(|tensor| (tensor.0.clone(), json!(name))));
    }
    let index = json!({"metadata": {"total_size": 0}, "weight_map": map}).to_string();
    fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    folder
}

#[test]
fn every_family_has_the_logits_of_its_twin_and_of_its_gguf() {
    on_every_adapter(|gpu| {
        if !gpu.runs_models() {
            return;
        }
        for case in cases() {
            let what = format!("{} {}", gpu.name, case.name);
            let mut random = Random(41);
            let storage = Storage {
                matrices: case.format,
                odd_ones: BlockFormat::F32,
                tied: case.tied,
            };
            let built = tiny_model(&case.config, storage, case.extras, |n| random.normals(n));
            let (file, weights) = built;
            let prompt = prompt(&mut random, 37);
            let vocab = case.config.vocab;
            let logits = |mut session: Session| -> Vec<f32> {
                let mut quiet = |_, _| ();
                pollster::block_on(session.read_prompt(&prompt, &mut quiet)).unwrap();
                let logits: Vec<f32> = gpu.read(session.decoder().logits());
                logits[..vocab].to_vec()
            };
            let folder = write_folder(&case, &file);
            let (gguf, mut reader) = hugging_face::open(folder.path()).expect(&what);
            let mut quiet = |_, _| ();
            let load = Decoder::load(&gpu.gpu, &gguf, &mut reader, options(), &mut quiet);
            let decoder = pollster::block_on(load).expect(&what);
            let got = logits(Session::new(&gpu.gpu, decoder, Box::new(NoDrafter)));
            let mut twin = Twin::new(case.config.clone(), weights).unwrap();
            let expected = twin.forward(&prompt).unwrap();
            let expected = &expected[(prompt.len() - 1) * vocab..];
            compare(&what, &got, expected, Tolerance::F32).unwrap();
            if case.config.family.rope_halves {
                // The same rows in the same order: the same bits.
                let same = logits(open(
                    &gpu.gpu,
                    &file.bytes(),
                    options(),
                    Box::new(NoDrafter),
                ));
                let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&got), bits(&same), "{what}");
            }
        }
    });
}

/// A folder with a small model, and its tensors.
fn small() -> (TempDir, Case, GgufWriter) {
    let mut cases = cases();
    let case = cases.swap_remove(4);
    let mut random = Random(42);
    let storage = Storage {
        matrices: case.format,
        odd_ones: BlockFormat::F32,
        tied: case.tied,
    };
    let file = tiny_model(&case.config, storage, case.extras, |n| random.normals(n)).0;
    (write_folder(&case, &file), case, file)
}

#[track_caller]
fn refused(folder: &TempDir, words: &[&str]) -> HuggingFaceError {
    let error = hugging_face::open(folder.path()).expect_err("the folder was accepted");
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
    error
}

#[test]
fn missing_and_foreign_files_are_named() {
    refused(&tempfile::tempdir().unwrap(), &["config.json"]);
    let (folder, ..) = small();
    let at = |name: &str| folder.path().join(name);
    let second = at("model-00002-of-00003.safetensors");
    fs::rename(&second, at("spare")).unwrap();
    refused(&folder, &["model-00002-of-00003.safetensors"]);
    fs::copy(at("model-00001-of-00003.safetensors"), &second).unwrap();
    let error = refused(&folder, &["model-00002-of-00003.safetensors"]);
    assert!(matches!(error, HuggingFaceError::TensorMissing { .. }));
    fs::write(at("config.json"), "{").unwrap();
    refused(&folder, &["config.json", "JSON"]);

    let (folder, ..) = small();
    let index = folder.path().join("model.safetensors.index.json");
    for name in ["../model.safetensors", "/etc/model", "", "a/b"] {
        fs::write(&index, json!({"weight_map": {"x": name}}).to_string()).unwrap();
        let error = refused(&folder, &["index", name]);
        assert!(matches!(error, HuggingFaceError::FileName { .. }));
    }
    fs::remove_file(&index).unwrap();
    refused(&folder, &["model.safetensors"]);
}

#[test]
fn a_lacking_head_and_unknown_tensors_are_named() {
    let (folder, case, file) = small();
    let case = Case { files: 1, ..case };
    let path = folder.path().join("model.safetensors");
    fs::remove_file(folder.path().join("model.safetensors.index.json")).unwrap();
    let mut tensors = tensors(&case, &file);
    let experts = "model.layers.0.mlp.experts.0.up_proj.weight";
    tensors.push((experts.to_owned(), "F32", vec![1], vec![0; 4]));
    write_safetensors(&path, &tensors);
    let (gguf, _) = hugging_face::open(folder.path()).unwrap();
    let h = Hyperparameters::from_gguf(&gguf).unwrap();
    let error = h.check_tensors(&gguf).unwrap_err().to_string();
    assert!(error.contains(experts), "{error}");
    tensors.retain(|tensor| tensor.0 != "lm_head.weight");
    write_safetensors(&path, &tensors);
    let error = refused(&folder, &["tie_word_embeddings", "lm_head.weight"]);
    assert!(matches!(error, HuggingFaceError::HeadMissing));
}

#[test]
fn texts_have_the_tokens_of_the_gguf_vocabulary() {
    let (folder, ..) = small();
    let file = byte_level();
    let bytes = std::io::Cursor::new(file.bytes());
    let gguf = sunfleck::model::Gguf::read(&mut { bytes }).unwrap();
    let expected = Tokenizer::from_gguf(&gguf).unwrap();
    let names = gguf.strings("tokenizer.ggml.tokens").unwrap();
    let vocab: Map<String, Json> = (names.iter().take(258).cloned())
        .zip((0..).map(|id| json!(id)))
        .collect();
    let added = |id: usize| json!({"id": id, "content": names[id], "special": true});
    let tokenizer = json!({
        "added_tokens": [added(258), added(259)],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]},
        "model": {"type": "BPE", "vocab": vocab, "merges": ["h e", "he l"]},
    });
    let at = |name: &str| folder.path().join(name);
    fs::write(at("tokenizer.json"), tokenizer.to_string()).unwrap();
    let settings = json!({"eos_token": names[259]});
    fs::write(at("tokenizer_config.json"), settings.to_string()).unwrap();
    let (gguf, _) = hugging_face::open(folder.path()).unwrap();
    let tokenizer = Tokenizer::from_gguf(&gguf).unwrap();
    for text in ["hello 1234", "<|im_start|>héhel\n", "日本語  😀"] {
        let tokens = |t: &Tokenizer| t.encode(text, true).unwrap();
        assert_eq!(tokens(&tokenizer), tokens(&expected), "{text}");
    }
    assert_eq!(tokenizer.end_tokens(), expected.end_tokens());
    assert_eq!(tokenizer.begin_token(), None);

    // A normaliser brings text between control tokens into one form.
    let mut json: Json = serde_json::from_slice(&fs::read(at("tokenizer.json")).unwrap()).unwrap();
    let apart = "e\u{301}<|im_start|>e<|im_end|>\u{301}";
    let together = "\u{e9}<|im_start|>e<|im_end|>\u{301}";
    assert_ne!(
        tokenizer.encode(apart, true).unwrap(),
        expected.encode(together, true).unwrap()
    );
    json["normalizer"] = json!({"type": "NFC"});
    fs::write(at("tokenizer.json"), json.to_string()).unwrap();
    let (gguf, _) = hugging_face::open(folder.path()).unwrap();
    let tokenizer = Tokenizer::from_gguf(&gguf).unwrap();
    assert_eq!(
        tokenizer.encode(apart, true).unwrap(),
        expected.encode(together, true).unwrap()
    );

    // A pre-tokeniser that can't be made is an error, not a panic.
    let damaged = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
    ]});
    json["pre_tokenizer"] = damaged;
    fs::write(at("tokenizer.json"), json.to_string()).unwrap();
    let (gguf, _) = hugging_face::open(folder.path()).unwrap();
    assert!(Tokenizer::from_gguf(&gguf).is_err());
}
