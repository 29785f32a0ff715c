//! Tensor types, and the tensor table.

use std::fmt;
use std::io::{Read, Seek};

use super::GgufError;
use super::cursor::Cursor;

/// How a tensor's elements are stored, by ggml's numbers.
///
/// Layouts: `ggml-common.h` of ggml, `block_q4_0` and the like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u32)]
pub enum GgmlType {
    /// 32-bit floats.
    F32 = 0,
    /// 16-bit floats.
    F16 = 1,
    /// 4 bits and one f16 scale a block of 32: `d * (q - 8)`.
    Q4_0 = 2,
    /// 4 bits, an f16 scale and an f16 minimum a block of 32: `d * q + m`.
    Q4_1 = 3,
    /// 5 bits and one f16 scale a block of 32.
    Q5_0 = 6,
    /// 5 bits, an f16 scale and an f16 minimum a block of 32.
    Q5_1 = 7,
    /// 8 bits and one f16 scale a block of 32: `d * q`.
    Q8_0 = 8,
    /// 4 bits in super-blocks of 256.
    Q4K = 12,
    /// 5 bits in super-blocks of 256.
    Q5K = 13,
    /// 6 bits in super-blocks of 256.
    Q6K = 14,
    /// bfloat16.
    Bf16 = 30,
}

impl GgmlType {
    /// Every type that is read, in the order of the numbers.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Bf16,
    ];

    /// The type of that number, if it is one that is read.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }

    /// Elements in a block; a row is a whole number of blocks.
    pub fn block_size(self) -> u64 {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 2 + 16,
            Self::Q4_1 => 2 + 2 + 16,
            Self::Q5_0 => 2 + 4 + 16,
            Self::Q5_1 => 2 + 2 + 4 + 16,
            Self::Q8_0 => 2 + 32,
            Self::Q4K => 2 + 2 + 12 + 128,
            Self::Q5K => 2 + 2 + 12 + 32 + 128,
            Self::Q6K => 128 + 64 + 16 + 2,
        }
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ggml_name(*self as u32).unwrap_or("unknown"))
    }
}

/// ggml's own name of a type number, including those not read here.
fn ggml_name(number: u32) -> Option<&'static str> {
    Some(match number {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        4 => "Q4_2, removed from ggml",
        5 => "Q4_3, removed from ggml",
        6 => "Q5_0",
        7 => "Q5_1",
        8 => "Q8_0",
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        12 => "Q4_K",
        13 => "Q5_K",
        14 => "Q6_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        30 => "BF16",
        31..=33 => "Q4_0 repacked, removed from ggml",
        34 => "TQ1_0",
        35 => "TQ2_0",
        36..=38 => "IQ4_NL repacked, removed from ggml",
        39 => "MXFP4",
        40 => "NVFP4",
        _ => return None,
    })
}

/// One row of the tensor table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// Shape in ggml's order, the fastest axis first: `[inputs, outputs]` of a linear layer.
    pub shape: Vec<u64>,
    /// How the elements are stored.
    pub kind: GgmlType,
    /// Where the data starts, from the start of the file. // bytes
    pub offset: u64,
    /// Size of the data. // bytes
    pub byte_len: u64,
}

impl TensorInfo {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape
            .iter()
            .fold(1, |product, &n| product.saturating_mul(n))
    }

    /// Bytes of one row along the fastest axis.
    pub fn row_bytes(&self) -> u64 {
        let row = self.shape.first().copied().unwrap_or(0);
        (row / self.kind.block_size()).saturating_mul(self.kind.block_bytes())
    }

    /// Reads a row of the table; `offset` still counts from the start of the data section.
    pub(super) fn read<R: Read + Seek>(
        cursor: &mut Cursor<'_, R>,
        alignment: u64,
    ) -> Result<Self, GgufError> {
        let name = cursor.name("a tensor name")?;
        let what = format!("the table row of tensor `{name}`");
        let count = cursor.u32(&what)?;
        if !(1..=4).contains(&count) {
            return Err(GgufError::BadDimensionCount {
                tensor: name,
                count,
            });
        }
        let shape = cursor.items(&what, count.into(), u64::from_le_bytes)?;
        let number = cursor.u32(&what)?;
        let offset = cursor.u64(&what)?;
        let Some(kind) = GgmlType::from_number(number) else {
            return Err(GgufError::UnknownTensorType {
                tensor: name,
                number,
                name: ggml_name(number),
            });
        };
        let byte_len = match byte_len(&shape, kind) {
            Ok(byte_len) => byte_len,
            Err(problem) => {
                return Err(GgufError::BadShape {
                    tensor: name,
                    shape,
                    problem,
                });
            }
        };
        if !offset.is_multiple_of(alignment) {
            return Err(GgufError::MisalignedTensor {
                tensor: name,
                offset,
                alignment,
            });
        }
        Ok(Self {
            name,
            shape,
            kind,
            offset,
            byte_len,
        })
    }

    /// Makes `offset` absolute, once it is known where the data section starts.
    pub(super) fn place(&mut self, data_start: u64, file_len: u64) -> Result<(), GgufError> {
        let offset = data_start.saturating_add(self.offset);
        let end = offset.saturating_add(self.byte_len);
        if end > file_len {
            return Err(GgufError::Truncated {
                what: format!("the data of tensor `{}`", self.name),
                needed: end,
                given: file_len,
            });
        }
        self.offset = offset;
        Ok(())
    }
}

fn byte_len(shape: &[u64], kind: GgmlType) -> Result<u64, String> {
    if shape.contains(&0) {
        return Err("needed every dimension to be at least 1".to_owned());
    }
    let row = shape.first().copied().unwrap_or(0);
    if !row.is_multiple_of(kind.block_size()) {
        return Err(format!(
            "needed a first dimension that is a multiple of {kind}'s block of {}",
            kind.block_size()
        ));
    }
    shape
        .iter()
        .try_fold(1_u64, |product, &dimension| product.checked_mul(dimension))
        .map(|elements| elements / kind.block_size())
        .and_then(|blocks| blocks.checked_mul(kind.block_bytes()))
        .ok_or_else(|| "its size overflows 64 bits".to_owned())
}
