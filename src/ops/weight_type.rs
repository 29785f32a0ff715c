//! The storage types of weights, and how large their blocks are in a file and on the GPU.

/// Columns of a block as kernels read it.
pub(crate) const BLOCK: usize = 32;

/// How the elements of a weight matrix are stored, in the layouts of ggml.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WeightType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// The upper halves of 32-bit floats.
    Bf16,
    /// Blocks of 32: f16 scale, 32 signed bytes.
    Q8_0,
    /// Blocks of 32: f16 scale, 32 nibbles, each minus 8.
    Q4_0,
    /// Blocks of 32: f16 scale, f16 minimum, 32 nibbles.
    Q4_1,
    /// Blocks of 32: f16 scale, 32 integers of 5 bits, each minus 16.
    Q5_0,
    /// Blocks of 32: f16 scale, f16 minimum, 32 integers of 5 bits.
    Q5_1,
    /// Super-blocks of 256: f16 scale and minimum, 8 blocks of 32 nibbles with scale and minimum of 6
    /// bits.
    Q4K,
    /// As [`Self::Q4K`] with integers of 5 bits.
    Q5K,
    /// Super-blocks of 256: f16 scale, 16 blocks of 16 integers of 6 bits, each minus 32, with a
    /// scale of 8 bits.
    Q6K,
}

impl WeightType {
    /// All types.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// Name in kernel variants.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
            Self::Q4K => "q4_k",
            Self::Q5K => "q5_k",
            Self::Q6K => "q6_k",
        }
    }

    /// Whether elements are integers with scales, in whole blocks.
    pub fn is_quantised(self) -> bool {
        !matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }

    /// Bytes of one stored row of `columns` elements. Quantised rows are whole blocks.
    pub fn row_bytes(self, columns: u32) -> usize {
        let columns = columns as usize;
        match self {
            Self::F32 => columns * 4,
            Self::F16 | Self::Bf16 => columns * 2,
            _ => columns.div_ceil(self.group_blocks() * BLOCK) * self.stored_bytes(),
        }
    }

    /// Blocks of [`BLOCK`] columns that are stored together: 8 in a super-block.
    pub(super) fn group_blocks(self) -> usize {
        match self {
            Self::Q4K | Self::Q5K | Self::Q6K => 8,
            _ => 1,
        }
    }

    /// Bytes of a stored group.
    pub(super) fn stored_bytes(self) -> usize {
        match self {
            Self::F32 => 128,
            Self::F16 | Self::Bf16 => 64,
            Self::Q8_0 => 2 + 32,
            Self::Q4_0 => 2 + 16,
            Self::Q4_1 => 2 + 2 + 16,
            Self::Q5_0 => 2 + 4 + 16,
            Self::Q5_1 => 2 + 2 + 4 + 16,
            Self::Q4K => 2 + 2 + 12 + 128,
            Self::Q5K => 2 + 2 + 12 + 32 + 128,
            Self::Q6K => 128 + 64 + 16 + 2,
        }
    }

    /// Bytes on the GPU of the elements of a block, without scales and upper bits.
    pub(super) fn quant_bytes(self) -> usize {
        match self {
            Self::F32 => 128,
            Self::F16 | Self::Bf16 => 64,
            Self::Q8_0 => 32,
            _ => 16,
        }
    }

    /// What lies beside the elements of a group on the GPU, scales and upper bits: bytes of each field
    /// of one row, a multiple of 2. The field of all rows of a tile comes before the next field.
    pub(super) fn scale_fields(self) -> &'static [usize] {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => &[],
            Self::Q8_0 | Self::Q4_0 => &[2],
            Self::Q4_1 => &[4],
            Self::Q5_0 => &[4, 2],
            Self::Q5_1 => &[4, 4],
            Self::Q4K => &[4; 5],
            Self::Q5K => &[4; 13],
            Self::Q6K => &[4; 21],
        }
    }

    /// Bytes of all fields of a group of one row.
    pub(super) fn scale_bytes(self) -> usize {
        self.scale_fields().iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_whole_blocks() {
        let bytes = |ty: WeightType| ty.row_bytes(512);
        assert_eq!(bytes(WeightType::Bf16), 1024);
        assert_eq!(bytes(WeightType::Q5_1), 16 * 24);
        assert_eq!(bytes(WeightType::Q4K), 2 * 144);
        assert_eq!(bytes(WeightType::Q5K), 2 * 176);
        assert_eq!(bytes(WeightType::Q6K), 2 * 210);
        assert_eq!(WeightType::Q6K.row_bytes(257), 2 * 210);
        assert_eq!(WeightType::F16.row_bytes(33), 66);
    }

    #[test]
    fn a_group_on_the_gpu_holds_the_bits_of_the_stored_one() {
        for ty in WeightType::ALL.into_iter().filter(|ty| ty.is_quantised()) {
            let on_gpu = ty.group_blocks() * ty.quant_bytes() + ty.scale_bytes();
            // Scales of 6 bits take up 8 there.
            let slack = 4 * (ty.group_blocks() / 8);
            assert!(
                (ty.stored_bytes()..=ty.stored_bytes() + slack).contains(&on_gpu),
                "{ty:?}: {on_gpu}"
            );
        }
    }
}
