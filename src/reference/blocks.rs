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
//!
//! The low nibble of byte `j` is element `j`, its high nibble is element `j + 16`.

use super::{ReferenceError, check_argument, check_length};

/// How the elements of a weight lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BlockFormat {
    /// 4 bytes an element.
    F32,
    /// 2 bytes an element.
    F16,
    /// 34 bytes a block of 32.
    Q8_0,
    /// 18 bytes a block of 32.
    Q4_0,
    /// 20 bytes a block of 32.
    Q4_1,
}

impl BlockFormat {
    /// Every format.
    pub const ALL: [BlockFormat; 5] = [
        BlockFormat::F32,
        BlockFormat::F16,
        BlockFormat::Q8_0,
        BlockFormat::Q4_0,
        BlockFormat::Q4_1,
    ];

    /// Elements a block.
    pub const fn block_elements(self) -> usize {
        match self {
            BlockFormat::F32 | BlockFormat::F16 => 1,
            BlockFormat::Q8_0 | BlockFormat::Q4_0 | BlockFormat::Q4_1 => 32,
        }
    }

    /// Bytes a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            BlockFormat::F32 => 4,
            BlockFormat::F16 => 2,
            BlockFormat::Q8_0 => 34,
            BlockFormat::Q4_0 => 18,
            BlockFormat::Q4_1 => 20,
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
        }
    }
    Ok(elements)
}

/// Bytes of `format` that come near `values`: test data, by the plain rule (scale from the largest
/// magnitude, or from the range for Q4_1), not a quantiser for models.
///
/// # Errors
/// [`ReferenceError::Length`] when `values` is no whole number of blocks.
pub fn quantise(format: BlockFormat, values: &[f32]) -> Result<Vec<u8>, ReferenceError> {
    let elements = format.block_elements();
    check_length(
        "values",
        "[block, element]",
        values,
        &[values.len() / elements, elements],
    )?;
    let mut bytes = Vec::with_capacity(values.len() / elements * format.block_bytes());
    for block in values.chunks_exact(elements) {
        match format {
            BlockFormat::F32 => bytes.extend(block[0].to_le_bytes()),
            BlockFormat::F16 => bytes.extend(half::f16::from_f32(block[0]).to_le_bytes()),
            BlockFormat::Q8_0 => {
                let d = push_half(&mut bytes, largest_magnitude(block).abs() / 127.0);
                bytes.extend(
                    block
                        .iter()
                        .map(|&x| level(x, d, 0.0, -127.0, 127.0) as i8 as u8),
                );
            }
            BlockFormat::Q4_0 => {
                // The largest magnitude takes level 0, the only end that reaches -8.
                let d = push_half(&mut bytes, largest_magnitude(block) / -8.0);
                let levels: Vec<u8> = block
                    .iter()
                    .map(|&x| (level(x, d, 0.0, -8.0, 7.0) + 8.0) as u8)
                    .collect();
                push_nibbles(&mut bytes, &levels);
            }
            BlockFormat::Q4_1 => {
                let low = block.iter().copied().fold(f32::INFINITY, f32::min);
                let high = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let d = push_half(&mut bytes, (high - low) / 15.0);
                let m = push_half(&mut bytes, low);
                let levels: Vec<u8> = block
                    .iter()
                    .map(|&x| level(x, d, m, 0.0, 15.0) as u8)
                    .collect();
                push_nibbles(&mut bytes, &levels);
            }
        }
    }
    Ok(bytes)
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

fn push_nibbles(bytes: &mut Vec<u8>, levels: &[u8]) {
    let (low, high) = levels.split_at(levels.len() / 2);
    bytes.extend(low.iter().zip(high).map(|(&low, &high)| low | high << 4));
}

/// Appends `value` as f16 and returns what was stored, so that levels fit the stored scale.
fn push_half(bytes: &mut Vec<u8>, value: f32) -> f32 {
    let stored = half::f16::from_f32(value);
    bytes.extend(stored.to_le_bytes());
    stored.to_f32()
}

fn largest_magnitude(block: &[f32]) -> f32 {
    block.iter().copied().fold(
        0.0,
        |best: f32, x| if x.abs() > best.abs() { x } else { best },
    )
}

fn level(x: f32, d: f32, m: f32, low: f32, high: f32) -> f32 {
    if d == 0.0 {
        return 0f32.clamp(low, high);
    }
    ((x - m) / d).round().clamp(low, high)
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
    fn plain_formats_are_little_endian() {
        assert_eq!(
            dequantise(BlockFormat::F32, &1.5f32.to_le_bytes()).unwrap(),
            [1.5]
        );
        assert_eq!(
            dequantise(BlockFormat::F16, &half_bytes(-0.125)).unwrap(),
            [-0.125]
        );
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
                let bytes = quantise(format, &[value; 64]).unwrap();
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
        fn quantised_values_stay_within_a_step(values in prop::collection::vec(-4f32..4.0, 32)) {
            for (format, step) in [
                (BlockFormat::F32, 0.0),
                (BlockFormat::F16, 4.0 / 1024.0),
                (BlockFormat::Q8_0, 4.0 / 120.0),
                (BlockFormat::Q4_0, 4.0 / 7.5),
                (BlockFormat::Q4_1, 8.0 / 14.5),
            ] {
                let back = dequantise(format, &quantise(format, &values).unwrap()).unwrap();
                for (back, &value) in back.iter().zip(&values) {
                    prop_assert!((back - f64::from(value)).abs() <= step, "{:?}", format);
                }
            }
        }
    }
}
