//! The header of a safetensors file.
//!
//! Format: <https://github.com/huggingface/safetensors#format>: the header's length in 8 bytes, the header as JSON, the
//! data. Tensors cover the data without holes and without sharing any of it.

use std::io::{Read, Seek, SeekFrom};

use serde_json::Value as Json;

use super::HuggingFaceError;
use crate::model::{GgmlType, TensorInfo};

/// Longest header; the reference implementation has the same limit. // bytes
const MAX_HEADER: u64 = 100_000_000;

/// The tensors of the file, by offset from its start, and its length. Shapes are in ggml's order: reversed.
pub(super) fn read<R: Read + Seek>(
    file: &str,
    reader: &mut R,
) -> Result<(Vec<TensorInfo>, u64), HuggingFaceError> {
    let io = |source| HuggingFaceError::Io {
        file: file.to_owned(),
        source,
    };
    let damaged = |what: String| HuggingFaceError::Damaged {
        file: file.to_owned(),
        what,
    };
    let len = reader.seek(SeekFrom::End(0)).map_err(io)?;
    if len < 8 {
        return Err(damaged(format!("needed at least 8 bytes, given {len}")));
    }
    reader.seek(SeekFrom::Start(0)).map_err(io)?;
    let mut header_len = [0; 8];
    reader.read_exact(&mut header_len).map_err(io)?;
    let header_len = u64::from_le_bytes(header_len);
    if header_len > MAX_HEADER || header_len > len - 8 {
        return Err(damaged(format!(
            "it announces a header of {header_len} bytes and has {}",
            len - 8
        )));
    }
    let mut header = vec![0; header_len as usize];
    reader.read_exact(&mut header).map_err(io)?;
    let header: Json = serde_json::from_slice(&header)
        .map_err(|error| damaged(format!("its header is not JSON: {error}")))?;
    let Json::Object(entries) = header else {
        return Err(damaged("its header is not an object".to_owned()));
    };
    let start = 8 + header_len;
    let mut tensors = Vec::new();
    for (name, entry) in entries {
        if name != "__metadata__" {
            tensors.push(tensor(file, name, &entry, start, len)?);
        }
    }
    tensors.sort_by_key(|tensor| (tensor.offset, tensor.byte_len));
    let mut end = start;
    for tensor in &tensors {
        if tensor.offset != end {
            return Err(damaged(format!(
                "tensor `{}` starts at byte {}, needed {end}, where the one before it ends",
                tensor.name, tensor.offset
            )));
        }
        end += tensor.byte_len;
    }
    if end != len {
        return Err(damaged(format!(
            "its tensors end at byte {end} of {len}; needed the end of the file"
        )));
    }
    Ok((tensors, len))
}

fn tensor(
    file: &str,
    name: String,
    entry: &Json,
    start: u64,
    len: u64,
) -> Result<TensorInfo, HuggingFaceError> {
    let damaged = |what: &str| HuggingFaceError::Damaged {
        file: file.to_owned(),
        what: format!("tensor `{name}` {what}"),
    };
    let kind = match entry["dtype"].as_str() {
        Some("F32") => GgmlType::F32,
        Some("F16") => GgmlType::F16,
        Some("BF16") => GgmlType::Bf16,
        Some(other) => {
            return Err(HuggingFaceError::ElementType {
                file: file.to_owned(),
                tensor: name,
                given: other.chars().take(16).collect(),
            });
        }
        None => return Err(damaged("has no `dtype`")),
    };
    let numbers = |key: &str| -> Option<Vec<u64>> {
        let items = entry[key].as_array()?;
        items.iter().map(Json::as_u64).collect()
    };
    let mut shape = numbers("shape").ok_or_else(|| damaged("has no `shape` of numbers"))?;
    shape.reverse();
    let offsets = numbers("data_offsets");
    let Some([begin, end]) = offsets.as_deref() else {
        return Err(damaged("has no two `data_offsets`"));
    };
    let bytes = (shape.iter()).try_fold(kind.block_bytes(), |bytes, n| bytes.checked_mul(*n));
    if bytes.is_none() || end.checked_sub(*begin) != bytes {
        return Err(damaged("has another size than its shape says"));
    }
    if *end > len - start {
        return Err(damaged("ends after the file"));
    }
    Ok(TensorInfo {
        name,
        shape,
        kind,
        offset: start + begin,
        byte_len: end - begin,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 7);
        bytes
    }

    fn refusal(bytes: Vec<u8>) -> String {
        let error = read("f", &mut Cursor::new(bytes)).unwrap_err();
        error.to_string()
    }

    const TWO: &str = r#"{"__metadata__":{"format":"pt"},
        "b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},
        "a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;

    #[test]
    fn shapes_are_reversed_and_offsets_count_from_the_start_of_the_file() {
        let bytes = file(TWO, 16);
        let (tensors, len) = read("f", &mut Cursor::new(&bytes)).unwrap();
        assert_eq!(len, bytes.len() as u64);
        assert_eq!(tensors[0].name, "a");
        assert_eq!(tensors[1].shape, [3, 2]);
        assert_eq!(tensors[1].kind, GgmlType::Bf16);
        assert_eq!(tensors[1].offset, len - 12);
        assert_eq!(tensors[1].byte_len, 12);
    }

    #[test]
    fn damaged_files_say_what_is_wrong() {
        let has = |bytes, word| {
            let message = refusal(bytes);
            assert!(message.contains(word), "{word:?} is not in: {message}");
        };
        has(vec![1, 2, 3], "8 bytes");
        has(u64::MAX.to_le_bytes().to_vec(), "announces");
        has(file("[]", 0), "not an object");
        has(file("{", 0), "not JSON");
        has(file(TWO, 15), "ends after the file");
        has(file(TWO, 17), "needed the end");
        let change = |from, to| file(&TWO.replace(from, to), 16);
        has(change("[2,3]", "[2,4]"), "size");
        has(change("[2,3]", "[18446744073709551615,3]"), "size");
        has(change("[4,16]", "[2,14]"), "starts at byte");
        has(change("[4,16]", "[16,4]"), "size");
        has(change("[4,16]", "[16]"), "data_offsets");
        has(change("\"BF16\"", "\"F8_E4M3\""), "F8_E4M3");
        has(change("[2,3]", "[2,-3]"), "shape");
    }
}
