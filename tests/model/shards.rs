//! Models cut into several files: opened by the first, read as one, refused where a file is missing or out of place.

use std::{
    io::Cursor,
    path::{Path, PathBuf},
};

use sunfleck::{
    draft::NoDrafter,
    generate::Session,
    model::{
        Decoder, Gguf, Hyperparameters,
        gguf::{self, ShardError},
    },
    reference::blocks::BlockFormat,
};
use tempfile::TempDir;

use crate::{
    adapters::on_every_adapter,
    decoder::{config, open, options, prompt},
    gguf_writer::{GgufWriter, Storage, Value, tiny_llama},
    random::Random,
};

fn whole() -> GgufWriter {
    let storage = Storage {
        matrices: BlockFormat::Q4_0,
        odd_ones: BlockFormat::Q8_0,
        tied: false,
    };
    let mut random = Random(31);
    tiny_llama(&config(), storage, |n| random.normals(n)).0
}

fn number(n: usize) -> Value {
    Value::Raw(2, (n as u16).to_le_bytes().into()) // a u16, as llama-gguf-split writes it
}

/// Cuts `file` before each of these tensors.
fn cut(file: &GgufWriter, cuts: &[usize]) -> Vec<GgufWriter> {
    let mut starts = vec![0];
    starts.extend(cuts);
    let mut parts = Vec::new();
    for (i, start) in starts.iter().enumerate() {
        let end = starts.get(i + 1).copied().unwrap_or(file.tensors.len());
        let mut part = GgufWriter {
            metadata: Vec::new(),
            tensors: file.tensors[*start..end].to_vec(),
        };
        if i == 0 {
            part.metadata = file.metadata.clone();
        }
        part.set("split.no", number(i));
        part.set("split.count", number(starts.len()));
        let tensors = (file.tensors.len() as i32).to_le_bytes();
        part.set("split.tensors.count", Value::Raw(5, tensors.into()));
        parts.push(part);
    }
    parts
}

/// A model in two files, one after the other, and where they are cut.
pub fn in_two() -> (Vec<u8>, usize) {
    let parts: Vec<Vec<u8>> = cut(&whole(), &[7]).iter().map(GgufWriter::bytes).collect();
    (parts.concat(), parts[0].len())
}

fn path(folder: &TempDir, number: usize, count: usize) -> PathBuf {
    let name = format!("tiny-{number:05}-of-{count:05}.gguf");
    folder.path().join(name)
}

/// The files in a folder of their own.
fn written(parts: &[GgufWriter]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (part, number) in parts.iter().zip(1..) {
        std::fs::write(path(&folder, number, parts.len()), part.bytes()).unwrap();
    }
    folder
}

#[track_caller]
fn refused(path: &Path, words: &[&str]) -> ShardError {
    let error = gguf::open(path).expect_err("the files were accepted");
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
    error
}

#[test]
fn every_tensor_has_the_bytes_of_the_whole_file() {
    let whole = whole();
    let bytes = whole.bytes();
    let mut file = Cursor::new(&bytes);
    let expected = Gguf::read(&mut file).unwrap();
    // Also a first file without tensors (`--no-tensor-first-split`), and more files than two.
    for cuts in [&[][..], &[7], &[0, 5], &[1, 9, 14]] {
        let parts = cut(&whole, cuts);
        let folder = written(&parts);
        let (gguf, mut shards) = gguf::open(path(&folder, 1, parts.len())).unwrap();
        assert_eq!(gguf.tensors().len(), expected.tensors().len());
        let (mut got, mut want) = (Vec::new(), Vec::new());
        for tensor in gguf.tensors() {
            let other = expected.tensor(&tensor.name).unwrap();
            assert_eq!((&tensor.shape, tensor.kind), (&other.shape, other.kind));
            let range = 0..tensor.byte_len;
            let read = gguf.read_tensor_bytes(&mut shards, tensor, range.clone(), &mut got);
            read.unwrap();
            let read = expected.read_tensor_bytes(&mut file, other, range, &mut want);
            read.unwrap();
            assert!(got == want, "{} with cuts {cuts:?}", tensor.name);
        }
        let h = Hyperparameters::from_gguf(&gguf).unwrap();
        h.check_tensors(&gguf).unwrap();
    }
}

#[test]
fn a_model_in_three_files_has_the_logits_of_the_whole_bit_for_bit() {
    let whole = whole();
    let parts = cut(&whole, &[4, 11]);
    let folder = written(&parts);
    let prompt = prompt(&mut Random(5), 37);
    on_every_adapter(|gpu| {
        if !gpu.runs_models() {
            return;
        }
        let logits = |mut session: Session| -> Vec<u32> {
            let mut quiet = |_, _| ();
            pollster::block_on(session.read_prompt(&prompt, &mut quiet)).unwrap();
            let logits: Vec<f32> = gpu.read(session.decoder().logits());
            logits[..config().vocab]
                .iter()
                .map(|v| v.to_bits())
                .collect()
        };
        let expected = logits(open(
            &gpu.gpu,
            &whole.bytes(),
            options(),
            Box::new(NoDrafter),
        ));
        let (gguf, mut shards) = gguf::open(path(&folder, 1, 3)).unwrap();
        let mut last = (0, 0);
        let mut progress = |read, total| last = (read, total);
        let load = Decoder::load(&gpu.gpu, &gguf, &mut shards, options(), &mut progress);
        let decoder = pollster::block_on(load).unwrap();
        assert_eq!(last.0, last.1, "{}", gpu.name);
        let got = logits(Session::new(&gpu.gpu, decoder, Box::new(NoDrafter)));
        assert_eq!(got, expected, "{}", gpu.name);
    });
}

#[test]
fn a_missing_file_is_named() {
    let folder = written(&cut(&whole(), &[4, 11]));
    std::fs::remove_file(path(&folder, 2, 3)).unwrap();
    let words = ["tiny-00002-of-00003.gguf", "3 files"];
    let error = refused(&path(&folder, 1, 3), &words);
    assert!(matches!(error, ShardError::Open { count: 3, .. }));
    std::fs::remove_file(path(&folder, 1, 3)).unwrap();
    refused(&path(&folder, 1, 3), &["tiny-00001-of-00003.gguf"]);
}

#[test]
fn files_out_of_their_place_are_named() {
    let folder = written(&cut(&whole(), &[4, 11]));
    let [first, second, third] = [1, 2, 3].map(|number| path(&folder, number, 3));
    let error = refused(&second, &["tiny-00002", "file 2 of 3", "file 1 of 3"]);
    assert!(matches!(
        error,
        ShardError::Misnumbered {
            needed: 0,
            given: 1,
            ..
        }
    ));
    // Exchanged.
    let spare = folder.path().join("spare");
    std::fs::rename(&second, &spare).unwrap();
    std::fs::rename(&third, &second).unwrap();
    std::fs::rename(&spare, &third).unwrap();
    refused(&first, &["tiny-00002", "file 3 of 3", "file 2 of 3"]);
    // A file that is none of several.
    std::fs::write(&second, whole().bytes()).unwrap();
    refused(&first, &["tiny-00002", "file 1 of 1", "file 2 of 3"]);
    // A file of a model cut otherwise.
    std::fs::write(&second, cut(&whole(), &[4])[1].bytes()).unwrap();
    refused(&first, &["tiny-00002", "file 2 of 2", "file 2 of 3"]);
}

#[test]
fn a_first_file_with_another_name_is_refused() {
    let folder = written(&cut(&whole(), &[4]));
    let renamed = folder.path().join("model.gguf");
    std::fs::rename(path(&folder, 1, 2), &renamed).unwrap();
    refused(&renamed, &["model.gguf", "-00001-of-00002.gguf"]);
}

#[test]
fn files_that_lack_or_repeat_tensors_are_refused() {
    let mut parts = cut(&whole(), &[4, 11]);
    let lost = parts[2].tensors.pop().unwrap();
    let folder = written(&parts);
    let total = whole().tensors.len();
    let words = [
        format!("have {} tensors", total - 1),
        format!("needed {total}"),
    ];
    refused(&path(&folder, 1, 3), &[&words[0], &words[1]]);

    parts[2].tensors.push(lost);
    let twice = parts[0].tensors[0].clone();
    let name = twice.0.clone();
    parts[1].tensors.push(twice);
    let folder = written(&parts);
    refused(&path(&folder, 1, 3), &[&name, "tiny-00002"]);
}

#[test]
fn a_damaged_file_is_named_and_says_what_is_wrong() {
    let parts = cut(&whole(), &[4, 11]);
    let folder = written(&parts);
    let bytes = parts[2].bytes();
    std::fs::write(path(&folder, 3, 3), &bytes[..bytes.len() - 40]).unwrap();
    refused(&path(&folder, 1, 3), &["tiny-00003", "truncated"]);
    std::fs::write(path(&folder, 2, 3), b"not a model").unwrap();
    refused(&path(&folder, 1, 3), &["tiny-00002", "not a GGUF file"]);

    let mut parts = parts;
    parts[0].set("split.count", Value::Text("three".into()));
    let folder = written(&parts);
    refused(&path(&folder, 1, 3), &["tiny-00001", "split.count"]);
    assert!(matches!(Gguf::join(Vec::new()), Err(ShardError::NoFile)));
}

#[test]
fn the_merged_file_of_another_program_may_keep_its_keys() {
    let mut file = whole();
    file.set("split.no", number(0));
    file.set("split.count", number(0));
    let folder = written(&[file]);
    let (gguf, _) = gguf::open(path(&folder, 1, 1)).unwrap();
    assert!(gguf.get("split.count").is_none());
}
