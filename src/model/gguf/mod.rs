//! Reads the header, the metadata and the tensor table of a GGUF file; tensor data only on request.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3,
//! little-endian.
//!
//! Why not a crate: of those that exist, `ggus` wants the whole file as one slice, and `gguf-rs`
//! and candle's reader allocate what a length field of the file says before they know whether the
//! file holds it, and check neither tensor ranges nor duplicate names. A model file comes from
//! strangers, so here every count and length is compared with the bytes that are left, before
//! anything is allocated for it; and the file is streamed, so a browser or a small machine never
//! holds more than the chunk it uploads.
//!
//! ```no_run
//! use sunfleck::model::gguf::Gguf;
//!
//! let mut file = std::fs::File::open("model.gguf")?;
//! let gguf = Gguf::read(&mut file)?;
//! let embedding = gguf.tensor("token_embd.weight")?.clone();
//! let mut chunk = Vec::new();
//! gguf.read_tensor_bytes(&mut file, &embedding, 0..embedding.byte_len.min(1 << 20), &mut chunk)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cursor;
mod error;
mod shards;
mod tensor;
mod value;

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

use cursor::Cursor;
pub use error::GgufError;
pub use shards::{ShardError, Shards, open, shard_name};
pub use tensor::{GgmlType, TensorInfo};
pub use value::{Array, Value, ValueType};

/// The first four bytes of every GGUF file.
pub const MAGIC: [u8; 4] = *b"GGUF";
/// Alignment of tensor data when the file has no `general.alignment`. // bytes
pub const DEFAULT_ALIGNMENT: u64 = 32;
/// Most metadata entries a file may have; real files have under a hundred.
pub const MAX_METADATA_ENTRIES: u64 = 65_536;
/// Most tensors a file may have; the largest published models have a few thousand.
pub const MAX_TENSORS: u64 = 262_144;

/// Fewest bytes of a metadata entry: the key's length, one byte of key, the type, one byte of value.
const MIN_ENTRY_BYTES: u64 = 8 + 1 + 4 + 1;
/// Fewest bytes of a row of the tensor table: name length, name, dimension count, one dimension,
/// type, offset.
const MIN_TENSOR_BYTES: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// What a GGUF file says about itself: metadata and tensor table, no tensor data.
#[derive(Clone, Debug)]
pub struct Gguf {
    version: u32,
    alignment: u64,
    file_len: u64,
    metadata: HashMap<String, Value>,
    tensors: Vec<TensorInfo>,
    tensor_index: HashMap<String, usize>,
}

impl Gguf {
    /// Reads and checks everything before the tensor data, from the start of `reader`.
    ///
    /// Reads no more than the header, and holds no tensor data. On success every tensor's range
    /// lies inside the file, so [`read_tensor_bytes`](Self::read_tensor_bytes) fails only when the
    /// reader itself does.
    ///
    /// # Errors
    ///
    /// [`GgufError`] names what is wrong with the file: not GGUF, a version or byte order not
    /// read here, a count or length that the file cannot hold, a duplicate name, an unknown type,
    /// a tensor outside the file.
    pub fn read<R: Read + Seek>(reader: &mut R) -> Result<Self, GgufError> {
        let mut cursor = Cursor::new(reader)?;
        let version = read_version(&mut cursor)?;
        let tensor_count = cursor.u64("the tensor count")?;
        let entry_count = cursor.u64("the metadata count")?;
        check_count(
            "metadata entries",
            entry_count,
            MAX_METADATA_ENTRIES,
            MIN_ENTRY_BYTES,
            &cursor,
        )?;
        check_count(
            "tensors",
            tensor_count,
            MAX_TENSORS,
            MIN_TENSOR_BYTES,
            &cursor,
        )?;

        let mut metadata = HashMap::new();
        for _ in 0..entry_count {
            let key = cursor.name("a metadata key")?;
            let value = value::read_value(&mut cursor, &key)?;
            if metadata.contains_key(&key) {
                return Err(GgufError::DuplicateKey { key });
            }
            metadata.insert(key, value);
        }
        let alignment = read_alignment(&metadata)?;

        let mut tensors = Vec::new();
        let mut tensor_index = HashMap::new();
        for _ in 0..tensor_count {
            let tensor = TensorInfo::read(&mut cursor, alignment)?;
            if tensor_index
                .insert(tensor.name.clone(), tensors.len())
                .is_some()
            {
                return Err(GgufError::DuplicateTensor {
                    tensor: tensor.name,
                });
            }
            tensors.push(tensor);
        }

        let data_start = cursor.position().next_multiple_of(alignment);
        let file_len = cursor.file_len();
        for tensor in &mut tensors {
            tensor.place(data_start, file_len)?;
        }
        Ok(Self {
            version,
            alignment,
            file_len,
            metadata,
            tensors,
            tensor_index,
        })
    }

    /// A table of tensors of files in another format, whose bytes are read as if they lay one after the other.
    pub(crate) fn assemble(
        metadata: HashMap<String, Value>,
        tensors: Vec<TensorInfo>,
        file_len: u64,
    ) -> Result<Self, GgufError> {
        let mut tensor_index = HashMap::new();
        for (index, tensor) in tensors.iter().enumerate() {
            if tensor_index.insert(tensor.name.clone(), index).is_some() {
                let tensor = tensor.name.clone();
                return Err(GgufError::DuplicateTensor { tensor });
            }
        }
        Ok(Self {
            version: 3,
            alignment: 1,
            file_len,
            metadata,
            tensors,
            tensor_index,
        })
    }

    /// The format version of the file: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Alignment of every tensor's data, a power of two. // bytes
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// Size of the whole file. // bytes
    pub fn file_len(&self) -> u64 {
        self.file_len
    }

    /// All tensors, in the order of the file's table.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of that name, or [`GgufError::TensorMissing`].
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo, GgufError> {
        self.find_tensor(name)
            .ok_or_else(|| GgufError::TensorMissing {
                tensor: name.to_owned(),
            })
    }

    /// The tensor of that name, if the file has it.
    pub fn find_tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensor_index
            .get(name)
            .and_then(|&index| self.tensors.get(index))
    }

    /// All metadata, in no particular order.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.metadata
            .iter()
            .map(|(key, value)| (key.as_str(), value))
    }

    /// The metadata value of that key, if the file has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// Reads the bytes `range` of `tensor`'s data into `chunk`, which is cleared and resized.
    ///
    /// `range` counts bytes from the start of the tensor, so a large tensor is read in pieces;
    /// `reader` must be the file this `Gguf` was read from.
    ///
    /// # Errors
    ///
    /// [`GgufError::RangeOutsideTensor`] if the range is not within `0..tensor.byte_len`;
    /// [`GgufError::Truncated`] or [`GgufError::Io`] if the reader gives less.
    pub fn read_tensor_bytes<R: Read + Seek>(
        &self,
        reader: &mut R,
        tensor: &TensorInfo,
        range: Range<u64>,
        chunk: &mut Vec<u8>,
    ) -> Result<(), GgufError> {
        let (offset, len) = self.place_in_file(tensor, &range)?;
        chunk.clear();
        chunk.resize(len, 0);
        reader
            .seek(SeekFrom::Start(offset))
            .and_then(|_| reader.read_exact(chunk))
            .map_err(|source| read_failed(tensor, &range, source))
    }

    /// Where the bytes `range` of `tensor`'s data are in the file, and how many there are.
    ///
    /// # Errors
    /// [`GgufError::RangeOutsideTensor`].
    pub(crate) fn place_in_file(
        &self,
        tensor: &TensorInfo,
        range: &Range<u64>,
    ) -> Result<(u64, usize), GgufError> {
        let outside = || GgufError::RangeOutsideTensor {
            tensor: tensor.name.clone(),
            start: range.start,
            end: range.end,
            byte_len: tensor.byte_len,
        };
        // `TensorInfo` has public fields: never trust one further than the file goes.
        let inside_tensor = range.start <= range.end && range.end <= tensor.byte_len;
        let tensor_end = tensor.offset.checked_add(tensor.byte_len);
        if !inside_tensor || tensor_end.is_none_or(|end| end > self.file_len) {
            return Err(outside());
        }
        let len = usize::try_from(range.end - range.start).map_err(|_| outside())?;
        Ok((tensor.offset + range.start, len))
    }
}

/// The error for the bytes `range` of `tensor`'s data that could not be read.
pub(crate) fn read_failed(
    tensor: &TensorInfo,
    range: &Range<u64>,
    source: std::io::Error,
) -> GgufError {
    let what = format!("the data of tensor `{}`", tensor.name);
    let needed = tensor.offset.saturating_add(range.end);
    match source.kind() {
        std::io::ErrorKind::UnexpectedEof => GgufError::Truncated {
            what,
            needed,
            given: needed.saturating_sub(1),
        },
        _ => GgufError::Io { what, source },
    }
}

fn read_version<R: Read + Seek>(cursor: &mut Cursor<'_, R>) -> Result<u32, GgufError> {
    let magic = cursor.array::<4>("the magic")?;
    if magic != MAGIC {
        return Err(GgufError::WrongMagic { found: magic });
    }
    let version = cursor.u32("the format version")?;
    match version {
        2 | 3 => Ok(version),
        // A big-endian file stores its small version number in the other order.
        _ if (1..=0xFFFF).contains(&version.swap_bytes()) => Err(GgufError::BigEndian {
            version: version.swap_bytes(),
        }),
        _ => Err(GgufError::UnsupportedVersion { version }),
    }
}

fn check_count<R: Read + Seek>(
    what: &'static str,
    count: u64,
    most: u64,
    min_bytes: u64,
    cursor: &Cursor<'_, R>,
) -> Result<(), GgufError> {
    if count > most {
        return Err(GgufError::AbsurdCount {
            what: what.to_owned(),
            count,
            most,
        });
    }
    cursor.check_room(|| format!("{count} {what}"), count * min_bytes)
}

fn read_alignment(metadata: &HashMap<String, Value>) -> Result<u64, GgufError> {
    let Some(value) = metadata.get("general.alignment") else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    let alignment = value.as_u64("general.alignment")?;
    // No device or page needs more; a bound keeps the sums below far from overflow.
    if !alignment.is_power_of_two() || alignment > 1 << 30 {
        return Err(GgufError::BadAlignment { alignment });
    }
    Ok(alignment)
}
