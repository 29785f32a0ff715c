//! What fuzz targets and property tests do with bytes of strangers: files of a folder are written, opened and read as far as
//! a decoder would. Nothing may panic, hang, or allocate more than a few times what the bytes are.

use std::{fs, path::Path};

use sunfleck::model::{Gguf, Hyperparameters, Tokenizer, gguf, hugging_face};

/// Most bytes read of one tensor, so that a run stays short. // bytes
const CHUNK: u64 = 4096;

/// A model of one layer, for which nothing has to be there.
const CONFIG: &str = r#"{
    "model_type": "llama", "hidden_act": "silu", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "vocab_size": 8, "tie_word_embeddings": true
}"#;

/// Reads the beginning of every tensor: what was accepted must be there.
fn read_tensors(gguf: &Gguf, reader: &mut (impl std::io::Read + std::io::Seek)) {
    let mut chunk = Vec::new();
    for tensor in gguf.tensors() {
        let range = 0..tensor.byte_len.min(CHUNK);
        gguf.read_tensor_bytes(reader, tensor, range, &mut chunk)
            .expect("an accepted tensor lies inside the file");
    }
    if let Ok(hyperparameters) = Hyperparameters::from_gguf(gguf) {
        let _ = hyperparameters.check_tensors(gguf);
    }
}

/// `bytes` as the safetensors file of a model in `folder`. Returns whether it was accepted.
pub fn read_safetensors(folder: &Path, bytes: &[u8]) -> bool {
    fs::write(folder.join("config.json"), CONFIG).expect("the folder can be written");
    fs::write(folder.join("model.safetensors"), bytes).expect("the folder can be written");
    match hugging_face::open(folder) {
        Ok((gguf, mut reader)) => {
            read_tensors(&gguf, &mut reader);
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

/// `bytes` as the vocabulary of a model in `folder`, whose weights are empty. Returns whether it was accepted.
pub fn read_vocabulary(folder: &Path, bytes: &[u8]) -> bool {
    const EMPTY: &[u8] = b"\x02\0\0\0\0\0\0\0{}";
    fs::write(folder.join("config.json"), CONFIG).expect("the folder can be written");
    fs::write(folder.join("model.safetensors"), EMPTY).expect("the folder can be written");
    fs::write(folder.join("tokenizer.json"), bytes).expect("the folder can be written");
    let Ok((gguf, _)) = hugging_face::open(folder) else {
        return false;
    };
    let Ok(tokenizer) = Tokenizer::from_gguf(&gguf) else {
        return false;
    };
    let name = tokenizer.name(0).unwrap_or_default();
    let text = format!("Hello {name} 123 \u{e9}\u{1f600}\n</s>");
    for parse_special in [false, true] {
        if let Ok(ids) = tokenizer.encode(&text, parse_special) {
            tokenizer
                .decode(&ids)
                .expect("encoded ids are in the vocabulary");
        }
    }
    true
}

/// `bytes` as a model in two files, cut at `cut`. Returns whether it was accepted.
pub fn read_shards(folder: &Path, bytes: &[u8], cut: usize) -> bool {
    let (first, second) = bytes.split_at(cut.min(bytes.len()));
    let first_path = folder.join("model-00001-of-00002.gguf");
    fs::write(&first_path, first).expect("the folder can be written");
    let second_path = folder.join("model-00002-of-00002.gguf");
    fs::write(second_path, second).expect("the folder can be written");
    match gguf::open(&first_path) {
        Ok((gguf, mut reader)) => {
            read_tensors(&gguf, &mut reader);
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}
