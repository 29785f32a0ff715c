//! What can be wrong with a GGUF file.

use super::ValueType;

/// Why a GGUF file was refused, or a value of it not given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The reader failed.
    #[error("could not read {what}: {source}; check that the file is readable and complete")]
    Io {
        /// What was being read.
        what: String,
        /// The reader's own error.
        source: std::io::Error,
    },
    /// The file does not start with `GGUF`.
    #[error(
        "not a GGUF file: needed the magic bytes 47 47 55 46 (\"GGUF\"), given {:02x} {:02x} {:02x} {:02x}; \
         give a .gguf file, or convert the model with llama.cpp's convert_hf_to_gguf.py",
        .found[0], .found[1], .found[2], .found[3]
    )]
    WrongMagic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// The file is written in big-endian order.
    #[error(
        "the file is big-endian GGUF version {version}; only little-endian is read: convert it with llama.cpp's \
         gguf_convert_endian.py"
    )]
    BigEndian {
        /// The version, in the file's own order.
        version: u32,
    },
    /// A version with another layout.
    #[error(
        "GGUF version {version} is not read here: needed 2 or 3; convert the model again with a current llama.cpp"
    )]
    UnsupportedVersion {
        /// The version of the file.
        version: u32,
    },
    /// The file ends before something it announces.
    #[error(
        "the file is truncated: {what} needs the file to have at least {needed} bytes, it has {given}; \
         download it again"
    )]
    Truncated {
        /// What does not fit.
        what: String,
        /// Fewest bytes the whole file must have.
        needed: u64,
        /// Bytes the whole file has.
        given: u64,
    },
    /// A count or length no real file has.
    #[error(
        "the file announces {count} {what}, at most {most} are read; the file is damaged or not a model"
    )]
    AbsurdCount {
        /// What is counted.
        what: String,
        /// What the file says.
        count: u64,
        /// The limit.
        most: u64,
    },
    /// A string is not UTF-8.
    #[error("{what} is not valid UTF-8; the file is damaged, or was written by a faulty converter")]
    NotUtf8 {
        /// Which string.
        what: String,
    },
    /// A key or tensor name of no characters.
    #[error("{what} is empty; the file is damaged")]
    EmptyName {
        /// Which name.
        what: String,
    },
    /// Two metadata entries have one key.
    #[error("the metadata key `{key}` occurs twice; the file is damaged")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// Two tensors have one name.
    #[error("the tensor `{tensor}` occurs twice; the file is damaged")]
    DuplicateTensor {
        /// The tensor.
        tensor: String,
    },
    /// A metadata value type that the format does not define.
    #[error(
        "metadata `{key}` has value type {number}, the format defines 0 to 12; the file is damaged or newer"
    )]
    UnknownValueType {
        /// The key.
        key: String,
        /// The type's number in the file.
        number: u32,
    },
    /// A bool that is neither 0 nor 1.
    #[error("metadata `{key}` is a bool with the byte {byte}, needed 0 or 1; the file is damaged")]
    BadBool {
        /// The key.
        key: String,
        /// The byte.
        byte: u8,
    },
    /// Arrays of arrays of arrays.
    #[error(
        "metadata `{key}` nests arrays more than {most} deep; the file is damaged or not a model"
    )]
    TooDeep {
        /// The key.
        key: String,
        /// The limit.
        most: u32,
    },
    /// `general.alignment` is not usable.
    #[error(
        "`general.alignment` is {alignment}, needed a power of two of at most 2^30; the file is damaged"
    )]
    BadAlignment {
        /// What the file says.
        alignment: u64,
    },
    /// A metadata key that is needed is not there.
    #[error(
        "the metadata has no `{key}` (needed: {expected}); convert the model again with a current llama.cpp"
    )]
    KeyMissing {
        /// The key.
        key: String,
        /// The kind of value that was needed.
        expected: &'static str,
    },
    /// A metadata value has another type or does not fit.
    #[error(
        "metadata `{key}` should be {expected}, found {found}; the file is damaged or from another kind of model"
    )]
    WrongType {
        /// The key.
        key: String,
        /// What was needed.
        expected: &'static str,
        /// What the file has, as a type and, for a number, its value.
        found: String,
    },
    /// A tensor type whose layout is unknown here.
    #[error(
        "tensor `{tensor}` has type {number} ({}), which is not read here; use a file in F32, F16, BF16, \
         Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K or Q6_K",
        .name.unwrap_or("unknown to ggml")
    )]
    UnknownTensorType {
        /// The tensor.
        tensor: String,
        /// The type's number in the file.
        number: u32,
        /// ggml's name of the type, if it has one.
        name: Option<&'static str>,
    },
    /// A tensor has no dimension, or more than four.
    #[error("tensor `{tensor}` has {count} dimensions, needed 1 to 4; the file is damaged")]
    BadDimensionCount {
        /// The tensor.
        tensor: String,
        /// Its number of dimensions.
        count: u32,
    },
    /// A dimension is zero, the product overflows, or rows are not whole blocks.
    #[error("tensor `{tensor}` has the shape {shape:?}, {problem}; the file is damaged")]
    BadShape {
        /// The tensor.
        tensor: String,
        /// Its shape, fastest axis first.
        shape: Vec<u64>,
        /// What is wrong with it.
        problem: String,
    },
    /// A tensor's data does not start on the alignment.
    #[error(
        "tensor `{tensor}` starts at offset {offset}, needed a multiple of the alignment {alignment}; the file is damaged"
    )]
    MisalignedTensor {
        /// The tensor.
        tensor: String,
        /// Its offset from the start of the data section.
        offset: u64,
        /// The file's alignment.
        alignment: u64,
    },
    /// No tensor of that name.
    #[error("the file has no tensor `{tensor}`; give a complete file of a Llama-family model")]
    TensorMissing {
        /// The tensor.
        tensor: String,
    },
    /// Bytes were asked for that the tensor does not have.
    #[error(
        "bytes {start}..{end} of tensor `{tensor}` were asked for, it has {byte_len} inside the file"
    )]
    RangeOutsideTensor {
        /// The tensor.
        tensor: String,
        /// First byte asked for.
        start: u64,
        /// One past the last byte asked for.
        end: u64,
        /// Bytes of the tensor.
        byte_len: u64,
    },
}

impl GgufError {
    pub(super) fn wrong_type(key: &str, expected: &'static str, found: String) -> Self {
        Self::WrongType {
            key: key.to_owned(),
            expected,
            found,
        }
    }

    pub(super) fn unknown_value_type(key: &str, number: u32) -> Self {
        debug_assert!(ValueType::from_number(number).is_none());
        Self::UnknownValueType {
            key: key.to_owned(),
            number,
        }
    }
}
