//! The block formats of GGUF weights, read from their raw bytes.
//!
//! Layouts as ggml publishes them (`ggml-common.h`). Numbers are little-endian; a block covers 32
//! consecutive elements of a row, `d` is its scale and `m` its minimum, both f16:
//!
//! | format | bytes of a block | element `j` |
//! |---|---|---|
//! | Q8_0 | `d`, 32 x i8 | `d * q[j]` |
//! | Q4_0 | `d`, 16 x u8 | `d * (nibble - 8)` |
//! | Q4_1 | `d`, `m`, 16 x u8 | `d * nibble + m` |
//! | Q5_0 | `d`, u32 `h`, 16 x u8 | `d * (nibble + 16 h[j] - 16)` |
//! | Q5_1 | `d`, `m`, u32 `h`, 16 x u8 | `d * (nibble + 16 h[j]) + m` |
//!
//! The low nibble of byte `j` is element `j`, its high nibble is element `j + 16`; `h[j]` is bit `j`.
//! A super-block covers 256 elements in blocks `b` with scales `s` and minima `t` of a few bits:
//!
//! | format | bytes of a super-block | element `j` |
//! |---|---|---|
//! | Q4_K | `d`, `m`, 12 with 8 x `s`, `t` of 6 bits, 128 x u8 | `d s[b] nibble - m t[b]`, `b = j / 32` |
//! | Q5_K | `d`, `m`, 12 likewise, 32 x u8 `h`, 128 x u8 | `d s[b] (nibble + 16 h) - m t[b]` |
//! | Q6_K | 128 x u8, 64 x u8 `h`, 16 x i8 `s`, `d` | `d s[b] (nibble + 16 h - 32)`, `b = j / 16` |
//!
//! [`dequantise`] is exact: each of these values fits an f64, and rounded to f32 it is bit for bit what
//! ggml computes (`tests/model/dequantised.rs` compares).

mod quantise;
mod super_blocks;

use super::{ReferenceError, check_argument};
pub use quantise::quantise;

/// How the elements of a weight lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BlockFormat {
    /// 4 bytes an element.
    F32,
    /// 2 bytes an element.
    F16,
    /// 2 bytes an element: the upper half of an f32.
    Bf16,
    /// 34 bytes a block of 32.
    Q8_0,
    /// 18 bytes a block of 32.
    Q4_0,
    /// 20 bytes a block of 32.
    Q4_1,
    /// 22 bytes a block of 32.
    Q5_0,
    /// 24 bytes a block of 32.
    Q5_1,
    /// 144 bytes a super-block of 256.
    Q4K,
    /// 176 bytes a super-block of 256.
    Q5K,
    /// 210 bytes a super-block of 256.
    Q6K,
}

impl BlockFormat {
    /// Every format.
    pub const ALL: [BlockFormat; 11] = [
        BlockFormat::F32,
        BlockFormat::F16,
        BlockFormat::Bf16,
        BlockFormat::Q8_0,
        BlockFormat::Q4_0,
        BlockFormat::Q4_1,
        BlockFormat::Q5_0,
        BlockFormat::Q5_1,
        BlockFormat::Q4K,
        BlockFormat::Q5K,
        BlockFormat::Q6K,
    ];

    /// Elements a block.
    pub const fn block_elements(self) -> usize {
        match self {
            BlockFormat::F32 | BlockFormat::F16 | BlockFormat::Bf16 => 1,
            BlockFormat::Q4K | BlockFormat::Q5K | BlockFormat::Q6K => 256,
            _ => 32,
        }
    }

    /// Bytes a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            BlockFormat::F32 => 4,
            BlockFormat::F16 | BlockFormat::Bf16 => 2,
            BlockFormat::Q8_0 => 34,
            BlockFormat::Q4_0 => 18,
            BlockFormat::Q4_1 => 20,
            BlockFormat::Q5_0 => 22,
            BlockFormat::Q5_1 => 24,
            BlockFormat::Q4K => 144,
            BlockFormat::Q5K => 176,
            BlockFormat::Q6K => 210,
        }
    }
}

/// The elements that `bytes` holds, in order.
///
/// # Errors
/// [`ReferenceError::Argument`] when `bytes` is no whole number of blocks.
pub fn dequantise(format: BlockFormat, bytes: &[u8]) -> Result<Vec<f64>, ReferenceError> {
    check_argument(
        bytes.len().is_multiple_of(format.block_bytes()),
        "bytes",
        "a whole number of blocks",
        format!(
            "{} bytes for {format:?} blocks of {}",
            bytes.len(),
            format.block_bytes()
        ),
    )?;
    let blocks = bytes.len() / format.block_bytes();
    let mut elements = Vec::with_capacity(blocks * format.block_elements());
    for block in bytes.chunks_exact(format.block_bytes()) {
        match format {
            BlockFormat::F32 => {
                let value = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
                elements.push(f64::from(value));
            }
            BlockFormat::F16 => elements.push(half_at(block, 0)),
            BlockFormat::Bf16 => {
                let value = half::bf16::from_le_bytes([block[0], block[1]]);
                elements.push(value.to_f64());
            }
            BlockFormat::Q8_0 => {
                let d = half_at(block, 0);
                elements.extend(block[2..].iter().map(|&q| d * f64::from(q as i8)));
            }
            BlockFormat::Q4_0 => {
                let d = half_at(block, 0);
                elements.extend(nibbles(&block[2..]).map(|q| d * (q - 8.0)));
            }
            BlockFormat::Q4_1 => {
                let (d, m) = (half_at(block, 0), half_at(block, 2));
                elements.extend(nibbles(&block[4..]).map(|q| d * q + m));
            }
            BlockFormat::Q5_0 => {
                let d = half_at(block, 0);
                elements.extend(fives(&block[2..]).map(|q| d * (q - 16.0)));
            }
            BlockFormat::Q5_1 => {
                let (d, m) = (half_at(block, 0), half_at(block, 2));
                elements.extend(fives(&block[4..]).map(|q| d * q + m));
            }
            BlockFormat::Q4K => elements.extend((0..256).map(|j| super_blocks::q4(block, j))),
            BlockFormat::Q5K => elements.extend((0..256).map(|j| super_blocks::q5(block, j))),
            BlockFormat::Q6K => elements.extend((0..256).map(|j| super_blocks::q6(block, j))),
        }
    }
    Ok(elements)
}

fn half_at(block: &[u8], offset: usize) -> f64 {
    half::f16::from_le_bytes([block[offset], block[offset + 1]]).to_f64()
}

/// The 32 levels of 16 bytes: first the low nibbles, then the high ones.
fn nibbles(packed: &[u8]) -> impl Iterator<Item = f64> {
    let low = packed.iter().map(|&byte| f64::from(byte & 0xF));
    let high = packed.iter().map(|&byte| f64::from(byte >> 4));
    low.chain(high)
}

/// The 32 levels of 4 bytes of fifth bits and 16 of nibbles.
fn fives(packed: &[u8]) -> impl Iterator<Item = f64> {
    let bit = |j: usize| f64::from(packed[j / 8] >> (j % 8) & 1);
    let high = (0..32).map(move |j| 16.0 * bit(j));
    nibbles(&packed[4..])
        .zip(high)
        .map(|(low, high)| low + high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn half_bytes(value: f32) -> [u8; 2] {
        half::f16::from_f32(value).to_le_bytes()
    }

    #[test]
    fn q8_0_levels_are_signed_bytes() {
        let mut block = half_bytes(0.5).to_vec();
        block.extend((0..32).map(|j| (j - 16) as i8 as u8));
        let x = dequantise(BlockFormat::Q8_0, &block).unwrap();
        assert_eq!((x[0], x[16], x[31]), (-8.0, 0.0, 7.5));
    }

    #[test]
    fn q4_0_levels_are_centred_at_eight() {
        let mut block = half_bytes(2.0).to_vec();
        block.extend([0xF0; 16]);
        let x = dequantise(BlockFormat::Q4_0, &block).unwrap();
        // The low nibbles are elements 0 to 15, the high ones 16 to 31.
        assert_eq!((x[0], x[15], x[16], x[31]), (-16.0, -16.0, 14.0, 14.0));
    }

    #[test]
    fn q4_1_adds_the_minimum() {
        let mut block = half_bytes(0.25).to_vec();
        block.extend(half_bytes(-1.0));
        block.extend((0..16).map(|j| j | (15 - j) << 4));
        let x = dequantise(BlockFormat::Q4_1, &block).unwrap();
        assert_eq!((x[0], x[4], x[16], x[31]), (-1.0, 0.0, 2.75, -1.0));
    }

    #[test]
    fn q5_0_takes_the_fifth_bit_of_each_element_from_a_word() {
        let mut block = half_bytes(0.5).to_vec();
        // Elements 1 and 31 have the bit; every nibble is 3.
        block.extend((1u32 << 1 | 1 << 31).to_le_bytes());
        block.extend([0x33; 16]);
        let x = dequantise(BlockFormat::Q5_0, &block).unwrap();
        assert_eq!((x[0], x[1], x[30], x[31]), (-6.5, 1.5, -6.5, 1.5));
    }

    #[test]
    fn q5_1_adds_the_minimum() {
        let mut block = half_bytes(2.0).to_vec();
        block.extend(half_bytes(-3.0));
        block.extend((1u32 << 16).to_le_bytes());
        block.extend([0x4F; 16]);
        let x = dequantise(BlockFormat::Q5_1, &block).unwrap();
        // Low nibbles 15, high nibbles 4; element 16 has the fifth bit.
        assert_eq!((x[0], x[16], x[17]), (27.0, 37.0, 5.0));
    }

    #[test]
    fn q4_k_has_a_scale_and_a_minimum_of_six_bits_a_block() {
        let mut block = half_bytes(0.5).to_vec();
        block.extend(half_bytes(0.25));
        let mut steps = [0u8; 12];
        // Block 0: s = 3, t = 5. Block 4: s = 0b10_0001 = 33, t = 0b01_0010 = 18.
        (steps[0], steps[4], steps[8]) = (3 | 0b10 << 6, 5 | 0b01 << 6, 0b0010_0001);
        block.extend(steps);
        block.extend([0x72; 128]);
        let x = dequantise(BlockFormat::Q4K, &block).unwrap();
        assert_eq!(x[0], 0.5 * 3.0 * 2.0 - 0.25 * 5.0);
        // Block 1 has the high nibbles of the first 32 bytes, and here no scale.
        assert_eq!(x[32], 0.0);
        assert_eq!(x[128], 0.5 * 33.0 * 2.0 - 0.25 * 18.0);
    }

    #[test]
    fn q5_k_takes_the_fifth_bit_of_block_b_from_bit_b() {
        let mut block = half_bytes(1.0).to_vec();
        block.extend(half_bytes(0.0));
        let mut steps = [0u8; 12];
        (steps[0], steps[1]) = (1, 1);
        block.extend(steps);
        let mut fifth = [0u8; 32];
        (fifth[7], fifth[8]) = (0b01, 0b10);
        block.extend(fifth);
        block.extend([0x21; 128]);
        let x = dequantise(BlockFormat::Q5K, &block).unwrap();
        assert_eq!((x[7], x[8], x[32 + 7], x[32 + 8]), (17.0, 1.0, 2.0, 18.0));
    }

    #[test]
    fn q6_k_takes_two_bits_of_each_quarter_of_a_half() {
        let mut block = vec![0u8; 210];
        // Element 32 * quarter + 16 of the second half: byte 64 + 32 (quarter % 2) + 16, nibble quarter / 2.
        block[64 + 16] = 0xA5; // quarters 0 and 2
        block[64 + 48] = 0x0F; // quarters 1 and 3
        block[128 + 32 + 16] = 0b11_10_01_00; // upper bits of quarters 3, 2, 1, 0
        // Their scales: 8 + 2 quarter + 1.
        for (quarter, scale) in [2i8, -3, 1, -128].into_iter().enumerate() {
            block[192 + 8 + 2 * quarter + 1] = scale as u8;
        }
        block[208..].copy_from_slice(&half_bytes(0.5));
        let x = dequantise(BlockFormat::Q6K, &block).unwrap();
        let at = |quarter: usize| x[128 + 32 * quarter + 16];
        assert_eq!(at(0), 0.5 * 2.0 * (5.0 - 32.0));
        assert_eq!(at(1), 0.5 * -3.0 * (15.0 + 16.0 - 32.0));
        assert_eq!(at(2), 0.5 * (10.0 + 32.0 - 32.0));
        assert_eq!(at(3), 0.5 * -128.0 * (48.0 - 32.0));
    }

    #[test]
    fn plain_formats_are_little_endian() {
        assert_eq!(
            dequantise(BlockFormat::F32, &1.5f32.to_le_bytes()).unwrap(),
            [1.5]
        );
        assert_eq!(
            dequantise(BlockFormat::F16, &half_bytes(-0.125)).unwrap(),
            [-0.125]
        );
        let bytes = half::bf16::from_f32(-3.5).to_le_bytes();
        assert_eq!(dequantise(BlockFormat::Bf16, &bytes).unwrap(), [-3.5]);
    }

    #[test]
    fn part_of_a_block_is_refused() {
        for format in BlockFormat::ALL {
            assert!(dequantise(format, &vec![0; format.block_bytes() + 1]).is_err());
            assert!(dequantise(format, &[]).unwrap().is_empty());
        }
        assert!(quantise(BlockFormat::Q4_0, &[0.0; 33]).is_err());
    }

    #[test]
    fn constant_blocks_survive() {
        for format in BlockFormat::ALL {
            for value in [0.0f32, 1.0, -4.0] {
                let bytes = quantise(format, &[value; 256]).unwrap();
                let back = dequantise(format, &bytes).unwrap();
                let off = back
                    .iter()
                    .map(|x| (x - f64::from(value)).abs())
                    .fold(0.0, f64::max);
                assert!(
                    off <= 2e-3 * f64::from(value.abs()),
                    "{format:?} {value}: off by {off}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn quantised_values_stay_within_a_step(values in prop::collection::vec(-4f32..4.0, 256)) {
            for (format, step) in [
                (BlockFormat::F32, 0.0),
                (BlockFormat::F16, 4.0 / 1024.0),
                (BlockFormat::Bf16, 4.0 / 256.0),
                (BlockFormat::Q8_0, 4.0 / 120.0),
                (BlockFormat::Q4_0, 4.0 / 7.5),
                (BlockFormat::Q4_1, 8.0 / 14.5),
                (BlockFormat::Q5_0, 4.0 / 15.5),
                (BlockFormat::Q5_1, 8.0 / 30.0),
                // The scales of blocks are rounded too, to 6 and 8 bits.
                (BlockFormat::Q4K, 8.0 / 10.0),
                (BlockFormat::Q5K, 8.0 / 16.0),
                (BlockFormat::Q6K, 4.0 / 25.0),
            ] {
                let back = dequantise(format, &quantise(format, &values).unwrap()).unwrap();
                for (back, &value) in back.iter().zip(&values) {
                    prop_assert!((back - f64::from(value)).abs() <= step, "{:?}", format);
                }
            }
        }
    }
}
