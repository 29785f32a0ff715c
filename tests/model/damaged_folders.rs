//! Damaged files of folders and of split models: refused, and nothing worse. The bodies are those of the fuzz targets.

use proptest::prelude::*;
use serde_json::json;

use crate::{
    fuzz_bodies::{read_safetensors, read_shards, read_vocabulary},
    shards::in_two,
};

/// Two tensors, in the order of their data.
fn safetensors() -> Vec<u8> {
    let header = json!({
        "__metadata__": {"format": "pt"},
        "model.norm.weight": {"dtype": "F32", "shape": [32], "data_offsets": [0, 128]},
        "model.embed_tokens.weight": {"dtype": "F16", "shape": [8, 32], "data_offsets": [128, 640]},
    });
    let header = header.to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend([0; 640]);
    bytes
}

fn unigram() -> Vec<u8> {
    let vocabulary = json!({
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u{2581}"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"}]},
        "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": true,
            "vocab": [["<unk>", 0.0], ["\u{2581}", -1.0], ["H", -2.0], ["ello", -3.0], ["<0xC3>", -9.0]]},
    });
    vocabulary.to_string().into_bytes()
}

#[test]
fn what_is_damaged_here_is_sound_before() {
    let folder = tempfile::tempdir().unwrap();
    assert!(read_safetensors(folder.path(), &safetensors()));
    assert!(read_vocabulary(folder.path(), &unigram()));
    let (bytes, cut) = in_two();
    assert!(read_shards(folder.path(), &bytes, cut));
}

/// `bytes` with other ones in some places of the first `head`, cut to a part.
fn damaged(mut bytes: Vec<u8>, head: usize, flips: &[(f64, u8)], cut: f64) -> Vec<u8> {
    for (at, byte) in flips {
        bytes[(at * head as f64) as usize] = *byte;
    }
    bytes.truncate((bytes.len() as f64 * cut) as usize);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_damage_makes_a_reader_panic(
        flips in prop::collection::vec((0.0..1.0f64, any::<u8>()), 0..6),
        cut in prop_oneof![Just(1.0), 0.3..1.0f64],
    ) {
        let folder = tempfile::tempdir().unwrap();
        let bytes = safetensors();
        let head = bytes.len() - 640;
        read_safetensors(folder.path(), &damaged(bytes, head, &flips, cut));
        let bytes = unigram();
        let head = bytes.len();
        read_vocabulary(folder.path(), &damaged(bytes, head, &flips, cut));
        let (bytes, middle) = in_two();
        // The headers of the first file: of the second where the first is whole.
        for (first, head) in [(0, middle / 8), (middle, (bytes.len() - middle) / 8)] {
            let after = damaged(bytes[first..].to_vec(), head, &flips, 1.0);
            let both = [&bytes[..first], &after].concat();
            read_shards(folder.path(), &both, middle);
        }
        let short = damaged(bytes, middle / 8, &flips, cut);
        read_shards(folder.path(), &short, middle);
    }
}
