//! The GGUF format itself: every type reads back, and every kind of damage is named.

use std::io::{Cursor, Read, Seek, SeekFrom};

use sunfleck::model::{
    GgmlType, Gguf, GgufError,
    gguf::{Array, Value as Metadata},
};

use crate::gguf_writer::{GgufWriter, Value};

/// Two tensors: 64 F32 values, and 2 rows of 64 in Q8_0.
fn file() -> GgufWriter {
    let mut file = GgufWriter::default();
    file.set("general.architecture", Value::Text("llama".into()));
    let values = (0..64).flat_map(|i| (i as f32).to_le_bytes()).collect();
    file.tensors.push(("values".into(), vec![64], 0, values));
    file.tensors
        .push(("blocks".into(), vec![64, 2], 8, (0..4 * 34).collect()));
    file
}

fn read(file: &GgufWriter) -> Result<Gguf, GgufError> {
    Gguf::read(&mut Cursor::new(file.bytes()))
}

#[track_caller]
fn refused(file: &GgufWriter, words: &[&str]) -> GgufError {
    let error = read(file).expect_err("the file was accepted");
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
    error
}

fn with(key: &str, kind: u32, bytes: impl Into<Vec<u8>>) -> GgufWriter {
    let mut file = file();
    file.set(key, Value::Raw(kind, bytes.into()));
    file
}

/// An array value: item type, count, and the items' bytes.
fn array(kind: u32, count: u64, items: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes(), items].concat()
}

#[test]
fn every_metadata_type_reads_back() {
    let mut file = file();
    let nested = array(
        9,
        2,
        &[array(0, 2, &[1, 2]), array(5, 1, &[255; 4])].concat(),
    );
    let cases: [(u32, Vec<u8>, Metadata); 14] = [
        (0, vec![200], Metadata::U8(200)),
        (1, vec![0x80], Metadata::I8(-128)),
        (2, 65_000_u16.to_le_bytes().into(), Metadata::U16(65_000)),
        (3, (-300_i16).to_le_bytes().into(), Metadata::I16(-300)),
        (4, u32::MAX.to_le_bytes().into(), Metadata::U32(u32::MAX)),
        (5, i32::MIN.to_le_bytes().into(), Metadata::I32(i32::MIN)),
        (6, 0.1_f32.to_le_bytes().into(), Metadata::F32(0.1)),
        (7, vec![1], Metadata::Bool(true)),
        (
            8,
            [&3_u64.to_le_bytes()[..], "é!".as_bytes()].concat(),
            Metadata::String("é!".into()),
        ),
        (
            9,
            array(2, 2, &[1, 0, 2, 0]),
            Metadata::Array(Array::U16(vec![1, 2])),
        ),
        (
            9,
            nested,
            Metadata::Array(Array::Array(vec![
                Array::U8(vec![1, 2]),
                Array::I32(vec![-1]),
            ])),
        ),
        (10, u64::MAX.to_le_bytes().into(), Metadata::U64(u64::MAX)),
        (11, i64::MIN.to_le_bytes().into(), Metadata::I64(i64::MIN)),
        (12, 0.1_f64.to_le_bytes().into(), Metadata::F64(0.1)),
    ];
    for (i, (kind, bytes, _)) in cases.iter().enumerate() {
        file.set(&format!("case.{i}"), Value::Raw(*kind, bytes.clone()));
    }
    let gguf = read(&file).unwrap();
    for (i, (_, _, expected)) in cases.iter().enumerate() {
        assert_eq!(gguf.get(&format!("case.{i}")), Some(expected));
    }
    assert_eq!(gguf.metadata().count(), cases.len() + 1);
}

#[test]
fn getters_take_any_width_that_fits_and_name_what_does_not() {
    let mut file = file();
    file.set("small", Value::Raw(0, vec![7]));
    file.set("signed", Value::Raw(11, 7_i64.to_le_bytes().into()));
    file.set("negative", Value::Raw(5, (-1_i32).to_le_bytes().into()));
    file.set("large", Value::Raw(10, (1_u64 << 32).to_le_bytes().into()));
    file.set("double", Value::Raw(12, 0.5_f64.to_le_bytes().into()));
    file.set("texts", Value::Texts(vec!["a".into(), "b".into()]));
    let gguf = read(&file).unwrap();
    assert_eq!(gguf.u32("small").unwrap(), 7);
    assert_eq!(gguf.u32("signed").unwrap(), 7);
    assert_eq!(gguf.f32("double").unwrap(), 0.5);
    assert_eq!(gguf.strings("texts").unwrap(), ["a", "b"]);
    let message = |error: GgufError| error.to_string();
    let negative = message(gguf.u32("negative").unwrap_err());
    assert!(
        negative.contains("`negative`") && negative.contains("I32 -1"),
        "{negative}"
    );
    let large = message(gguf.u32("large").unwrap_err());
    assert!(large.contains("U64 4294967296"), "{large}");
    let texts = message(gguf.str("texts").unwrap_err());
    assert!(
        texts.contains("a string") && texts.contains("2 String"),
        "{texts}"
    );
    let absent = message(gguf.bool("absent").unwrap_err());
    assert!(
        absent.contains("`absent`") && absent.contains("a bool"),
        "{absent}"
    );
}

#[test]
fn tensors_read_back_in_chunks() {
    let bytes = file().bytes();
    let mut reader = Cursor::new(&bytes);
    let gguf = Gguf::read(&mut reader).unwrap();
    assert_eq!((gguf.version(), gguf.alignment()), (3, 32));
    assert_eq!(gguf.file_len(), bytes.len() as u64);
    let blocks = gguf.tensor("blocks").unwrap();
    assert_eq!(
        (blocks.byte_len, blocks.row_bytes(), blocks.elements()),
        (136, 68, 128)
    );
    let mut chunk = Vec::new();
    let mut all = Vec::new();
    for start in (0..136).step_by(50) {
        let range = start..(start + 50).min(136);
        gguf.read_tensor_bytes(&mut reader, blocks, range, &mut chunk)
            .unwrap();
        all.extend_from_slice(&chunk);
    }
    assert_eq!(all, (0..136).collect::<Vec<u8>>());
}

#[test]
fn bytes_outside_a_tensor_are_never_read() {
    let bytes = file().bytes();
    let mut reader = Cursor::new(&bytes);
    let gguf = Gguf::read(&mut reader).unwrap();
    let blocks = gguf.tensor("blocks").unwrap().clone();
    let mut chunk = Vec::new();
    #[allow(clippy::reversed_empty_ranges)]
    for range in [0..137, 136..137, 5..4, 0..u64::MAX] {
        let read = gguf.read_tensor_bytes(&mut reader, &blocks, range, &mut chunk);
        assert!(matches!(read, Err(GgufError::RangeOutsideTensor { .. })));
    }
    // A tensor that a caller made up.
    let mut liar = blocks.clone();
    liar.byte_len = u64::MAX;
    let read = gguf.read_tensor_bytes(&mut reader, &liar, 0..1 << 40, &mut chunk);
    assert!(matches!(read, Err(GgufError::RangeOutsideTensor { .. })));
    // A file that became shorter since.
    let mut short = Cursor::new(&bytes[..bytes.len() - 64]);
    let read = gguf.read_tensor_bytes(&mut short, &blocks, 0..136, &mut chunk);
    assert!(matches!(read, Err(GgufError::Truncated { .. })));
}

#[test]
fn versions_two_and_three_are_read_and_others_named() {
    let version = |bytes: [u8; 4]| {
        let mut file = file().bytes();
        file[4..8].copy_from_slice(&bytes);
        Gguf::read(&mut Cursor::new(file)).map_err(|error| error.to_string())
    };
    assert_eq!(version([2, 0, 0, 0]).unwrap().version(), 2);
    assert!(version([1, 0, 0, 0]).unwrap_err().contains("version 1"));
    assert!(version([0, 0, 0, 3]).unwrap_err().contains("big-endian"));
}

#[test]
fn names_that_occur_twice_are_refused() {
    let mut twice = file();
    let key = "general.architecture".to_owned();
    twice.metadata.push((key, Value::U32(1)));
    refused(&twice, &["general.architecture", "twice"]);
    let mut twice = file();
    twice.tensors[1].0 = "values".into();
    refused(&twice, &["values", "twice"]);
    let mut unnamed = file();
    unnamed.tensors[0].0.clear();
    refused(&unnamed, &["tensor name", "empty"]);
}

#[test]
fn metadata_damage_is_named() {
    refused(&with("odd", 13, [0; 8]), &["odd", "13"]);
    refused(&with("odd", 7, [2]), &["odd", "bool", "2"]);
    let text = [&2_u64.to_le_bytes()[..], &[0xff, 0xfe]].concat();
    refused(&with("odd", 8, text), &["odd", "UTF-8"]);
    refused(
        &with("odd", 8, u64::MAX.to_le_bytes()),
        &["odd", "truncated"],
    );
    refused(
        &with("odd", 9, array(4, 1 << 20, &[])),
        &["odd", "truncated"],
    );
    refused(&with("odd", 9, array(4, u64::MAX, &[])), &["odd", "items"]);
    let deep = |levels| {
        let start = array(0, 1, &[9]);
        (1..levels).fold(start, |inner, _| array(9, 1, &inner))
    };
    read(&with("deep", 9, deep(4))).unwrap();
    refused(&with("deep", 9, deep(5)), &["deep", "4 deep"]);
}

#[test]
fn alignment_must_be_a_power_of_two_and_tensors_keep_it() {
    for alignment in [0, 3, 48, u32::MAX] {
        let file = with("general.alignment", 4, alignment.to_le_bytes());
        refused(&file, &["general.alignment", &alignment.to_string()]);
    }
    let mut wide = with("general.alignment", 4, 512_u32.to_le_bytes());
    refused(&wide, &["blocks", "256", "512"]);
    wide.tensors.pop();
    // What the writer put at a multiple of 32 is now expected at one of 512.
    refused(&wide, &["values", "truncated"]);
}

#[test]
fn impossible_shapes_are_named() {
    let shaped = |shape: &[u64], kind| {
        let mut file = file();
        file.tensors[1].1 = shape.to_vec();
        file.tensors[1].2 = kind;
        file
    };
    refused(&shaped(&[], 0), &["blocks", "0 dimensions"]);
    refused(&shaped(&[1; 5], 0), &["blocks", "5 dimensions"]);
    refused(&shaped(&[4, 0], 0), &["blocks", "[4, 0]"]);
    refused(&shaped(&[1 << 40, 1 << 40], 0), &["blocks", "overflow"]);
    refused(&shaped(&[1 << 62, 1], 0), &["blocks", "overflow"]);
    refused(&shaped(&[33, 2], 8), &["blocks", "block of 32"]);
    refused(&shaped(&[64, 3], 8), &["blocks", "truncated"]);
}

#[test]
fn tensor_types_are_named_by_number_and_by_ggml() {
    let typed = |kind| {
        let mut file = file();
        file.tensors[1].2 = kind;
        file
    };
    refused(&typed(99), &["blocks", "99", "unknown to ggml"]);
    refused(&typed(23), &["blocks", "23", "IQ4_XS"]);
    let mut bf16 = file();
    bf16.tensors[1] = ("blocks".into(), vec![4], 30, vec![0; 8]);
    assert_eq!(
        read(&bf16).unwrap().tensor("blocks").unwrap().kind,
        GgmlType::Bf16
    );
    read(&file()).unwrap();
}

#[test]
fn a_truncated_file_says_what_it_needs_and_has() {
    let bytes = file().bytes();
    let cut = &bytes[..bytes.len() - 100];
    let error = Gguf::read(&mut Cursor::new(cut)).unwrap_err();
    let GgufError::Truncated {
        what,
        needed,
        given,
    } = error
    else {
        panic!("{error}")
    };
    assert!(what.contains("blocks"), "{what}");
    // The last tensor ends 24 bytes before the padded end.
    assert_eq!((needed, given), (bytes.len() as u64 - 24, cut.len() as u64));
}

/// Says that it is huge, and gives nothing but its first bytes and then zeros.
struct Huge(Vec<u8>, u64);

impl Read for Huge {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        for byte in out.iter_mut() {
            *byte = self.0.get(self.1 as usize).copied().unwrap_or(0);
            self.1 += 1;
        }
        Ok(out.len())
    }
}

impl Seek for Huge {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.1 = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(_) => 1 << 50,
            SeekFrom::Current(by) => self.1.saturating_add_signed(by),
        };
        Ok(self.1)
    }
}

#[test]
fn a_huge_file_cannot_make_the_header_huge() {
    let mut file = with("odd", 8, (1_u64 << 40).to_le_bytes());
    let error = Gguf::read(&mut Huge(file.bytes(), 0)).unwrap_err();
    assert!(matches!(error, GgufError::AbsurdCount { .. }), "{error}");
    file = with("odd", 9, array(8, 1 << 24, &[]));
    file.tensors.clear();
    // 16 million empty strings: read or refused, but not for ever.
    let _ = Gguf::read(&mut Huge(file.bytes(), 0));
}
