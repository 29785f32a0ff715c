//! Files that are damaged, or hold a model that can't be run: each is refused by name.

use std::io::Cursor;

use proptest::prelude::*;
use sunfleck::{
    model::{Gguf, Hyperparameters, Tokenizer},
    reference::blocks::BlockFormat,
};

use crate::{
    decoder::config,
    gguf_writer::{GgufWriter, Storage, Value, tiny_llama},
    random::Random,
};

fn good() -> GgufWriter {
    let storage = Storage {
        matrices: BlockFormat::Q4_0,
        odd_ones: BlockFormat::Q4_0,
        tied: true,
    };
    let mut random = Random(1);
    tiny_llama(&config(), storage, |n| random.normals(n)).0
}

/// What opening the file says, down to the tensors; `None` where it is fine.
fn refusal(bytes: &[u8]) -> Option<String> {
    let gguf = match Gguf::read(&mut Cursor::new(bytes)) {
        Ok(gguf) => gguf,
        Err(error) => return Some(error.to_string()),
    };
    let check = Hyperparameters::from_gguf(&gguf).and_then(|h| h.check_tensors(&gguf));
    check.err().map(|error| error.to_string())
}

#[track_caller]
fn refused(bytes: &[u8], words: &[&str]) {
    let message = refusal(bytes).expect("the file was accepted");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

#[test]
fn the_unchanged_file_is_accepted() {
    assert_eq!(refusal(&good().bytes()), None);
}

#[test]
fn wrong_magic_and_version_are_named() {
    let mut bytes = good().bytes();
    bytes[..4].copy_from_slice(b"GGML");
    refused(&bytes, &["GGUF"]);
    let mut bytes = good().bytes();
    bytes[4] = 9;
    refused(&bytes, &["version", "9"]);
    refused(b"", &[]);
}

#[test]
fn truncation_anywhere_is_an_error() {
    let bytes = good().bytes();
    for cut in (0..bytes.len()).step_by(bytes.len() / 200) {
        assert!(
            refusal(&bytes[..cut]).is_some(),
            "accepted after {cut} bytes"
        );
    }
    refused(&bytes[..bytes.len() - 5000], &["byte"]);
}

#[test]
fn absurd_counts_are_refused_without_allocating_for_them() {
    for at in [8, 16] {
        let mut bytes = good().bytes();
        bytes[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(refusal(&bytes).is_some());
        bytes[at..at + 8].copy_from_slice(&(1u64 << 40).to_le_bytes());
        assert!(refusal(&bytes).is_some());
    }
}

#[test]
fn another_architecture_is_named() {
    let mut file = good();
    file.set("general.architecture", Value::Text("mamba".into()));
    refused(
        &file.bytes(),
        &["mamba", "llama", "qwen2", "qwen3", "smollm3"],
    );
}

#[test]
fn a_part_of_a_model_in_several_files_says_so() {
    let mut file = good();
    file.set("split.count", Value::Raw(2, 3u16.to_le_bytes().into()));
    refused(&file.bytes(), &["3 parts", "split.count", "--merge"]);
    file.set("split.count", Value::Raw(2, 1u16.to_le_bytes().into()));
    assert_eq!(refusal(&file.bytes()), None);
}

#[test]
fn absurd_hyperparameters_are_named() {
    for (key, value) in [
        ("llama.block_count", 0),
        ("llama.block_count", u32::MAX),
        ("llama.attention.head_count", 0),
        ("llama.attention.head_count", 7),
        ("llama.attention.head_count_kv", 4),
        ("llama.attention.key_length", 6),
        ("llama.rope.dimension_count", 13),
        ("llama.rope.dimension_count", 64),
        ("llama.embedding_length", 0),
        ("llama.context_length", 0),
    ] {
        let mut file = good();
        file.set(key, Value::U32(value));
        assert!(refusal(&file.bytes()).is_some(), "{key} = {value}");
    }
    for value in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let mut file = good();
        file.set("llama.rope.freq_base", Value::F32(value));
        refused(&file.bytes(), &["llama.rope.freq_base"]);
    }
    for key in [
        "llama.block_count",
        "llama.attention.layer_norm_rms_epsilon",
    ] {
        let mut file = good();
        file.remove(key);
        refused(&file.bytes(), &[key]);
    }
    let mut file = good();
    file.set("llama.block_count", Value::Text("two".into()));
    refused(&file.bytes(), &["llama.block_count"]);
}

#[test]
fn missing_misshapen_and_unknown_tensors_are_named() {
    let mut file = good();
    file.tensors
        .retain(|(name, ..)| name != "blk.1.ffn_up.weight");
    refused(&file.bytes(), &["blk.1.ffn_up.weight"]);

    let mut file = good();
    let norm = file
        .tensors
        .iter_mut()
        .find(|t| t.0 == "output_norm.weight")
        .unwrap();
    norm.1 = vec![32];
    norm.3.truncate(128);
    refused(&file.bytes(), &["output_norm.weight", "64"]);

    let mut file = good();
    file.tensors
        .push(("blk.0.attn_output.bias".into(), vec![64], 0, vec![0; 256]));
    refused(&file.bytes(), &["blk.0.attn_output.bias"]);
    // One bias of three.
    let mut file = good();
    file.tensors
        .push(("blk.0.attn_q.bias".into(), vec![96], 0, vec![0; 384]));
    refused(&file.bytes(), &["blk.0.attn_k.bias"]);
}

#[test]
fn unknown_weight_types_are_named_with_those_that_are_read() {
    let mut file = good();
    file.tensors[2].2 = 77;
    let read = ["77", "blk.0.attn_q.weight", "BF16", "Q5_1", "Q8_0", "Q6_K"];
    refused(&file.bytes(), &read);
    // Q4_K is read, but this tensor's rows are no whole super-blocks.
    let mut file = good();
    let rows = file.tensors[2].1.clone();
    file.tensors[2].1 = vec![256, rows.iter().product::<u64>() / 256];
    file.tensors[2].2 = 12;
    assert!(refusal(&file.bytes()).is_some());
}

#[test]
fn a_file_without_tokenizer_or_with_a_strange_one_says_so() {
    let read = |file: &GgufWriter| {
        let gguf = Gguf::read(&mut Cursor::new(file.bytes())).unwrap();
        Tokenizer::from_gguf(&gguf)
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let mut file = good();
    assert!(read(&file).contains("no tokenizer"));
    file.set("tokenizer.ggml.model", Value::Text("rwkv".into()));
    file.set("tokenizer.ggml.tokens", Value::Texts(vec!["a".into()]));
    assert!(read(&file).contains("rwkv"));
    file.set("tokenizer.ggml.model", Value::Text("gpt2".into()));
    file.set("tokenizer.ggml.pre", Value::Text("martian".into()));
    assert!(read(&file).contains("martian"));
    file.set("tokenizer.ggml.pre", Value::Text("smollm".into()));
    assert!(read(&file).contains("merges"));
    file.set(
        "tokenizer.ggml.merges",
        Value::Texts(vec!["no such".into()]),
    );
    read(&file);
    file.set("tokenizer.ggml.token_type", Value::I32s(vec![1, 1]));
    assert!(read(&file).contains("token_type"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_damage_makes_it_panic(
        flips in prop::collection::vec((0.0..1.0f64, any::<u8>()), 1..8),
        cut in 0.5..1.0f64,
    ) {
        let mut bytes = good().bytes();
        // Most of the file is weights, where any byte is fine: aim at header and tensor table.
        let head = bytes.len() / 8;
        for (at, byte) in flips {
            bytes[(at * head as f64) as usize] = byte;
        }
        bytes.truncate((bytes.len() as f64 * cut) as usize);
        let _ = refusal(&bytes);
    }
}
