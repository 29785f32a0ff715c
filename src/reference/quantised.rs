//! Keys and values as block-scaled integers: the twin of the cache's quantising append, and of the
//! attention kernels' reads.
//!
//! A row, one head of one token, is cut into blocks of [`BLOCK`] elements. Each block has a scale in
//! f16; a row has its integers first, little end first in words of 32 bits, then its scales, two to a
//! word.

use half::f16;

/// Elements that share a scale.
pub const BLOCK: usize = 32;

/// Width of the integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Integers {
    /// 8 bits, -127 to 127: `value = integer * scale`, scale = largest magnitude / 127.
    Eight,
    /// 4 bits, -8 to 7, stored plus 8: `value = integer * scale`. The scale's sign is such that the
    /// element of the largest magnitude is -8 scales, as in GGML's Q4_0: one more step than 7.
    Four,
}

impl Integers {
    fn bits(self) -> usize {
        match self {
            Self::Eight => 8,
            Self::Four => 4,
        }
    }

    /// Words of the integers of a row.
    fn words(self, dim: usize) -> usize {
        dim.div_ceil(32 / self.bits())
    }

    /// How far a stored value may be from the value itself, for a block whose largest magnitude is
    /// `largest`. Half a step of the scale, where the step may be larger by the rounding of the scale to
    /// f16 (2^-11, or 2^-25 for tiny scales); with 4 bits a value opposite in sign to the largest
    /// is cut at 7 steps, and up to one whole step off.
    pub fn error_bound(self, largest: f64) -> f64 {
        let step = |levels: f64| largest / levels * (1.0 + 2f64.powi(-11)) + 2f64.powi(-25);
        match self {
            // The largest itself is cut where the scale was rounded down.
            Self::Eight => step(127.0) * 0.5 + largest * 2f64.powi(-11) + 127.0 * 2f64.powi(-25),
            Self::Four => step(8.0) + largest * 2f64.powi(-11) + 8.0 * 2f64.powi(-25),
        }
    }
}

/// The scale of a block, rounded to f16.
fn scale_of(integers: Integers, block: &[f32]) -> f16 {
    let largest = block.iter().fold(0.0f32, |largest, value| {
        if value.abs() > largest.abs() {
            *value
        } else {
            largest
        }
    });
    // A scale beyond f16 becomes its largest number, and the values are cut.
    let scale = match integers {
        Integers::Eight => largest.abs() / 127.0,
        Integers::Four => largest / -8.0,
    };
    // Plus 0: a block of zeros has the scale 0, not -0.
    f16::from_f32(scale.clamp(-65504.0, 65504.0) + 0.0)
}

/// A row in storage: integers, then scales.
pub fn encode(integers: Integers, row: &[f32]) -> Vec<u32> {
    let blocks = row.len().div_ceil(BLOCK);
    let data = integers.words(row.len());
    let mut words = vec![0; data + blocks.div_ceil(2)];
    let per_word = 32 / integers.bits();
    for (b, block) in row.chunks(BLOCK).enumerate() {
        let scale = scale_of(integers, block);
        words[data + b / 2] |= u32::from(scale.to_bits()) << (b % 2 * 16);
        let scale = scale.to_f32();
        for (i, value) in block.iter().enumerate() {
            let steps = if scale == 0.0 { 0.0 } else { value / scale };
            let steps = steps.round_ties_even();
            let bits = match integers {
                Integers::Eight => steps.clamp(-127.0, 127.0) as i32 as u32 & 255,
                Integers::Four => (steps.clamp(-8.0, 7.0) as i32 + 8) as u32,
            };
            let at = b * BLOCK + i;
            words[at / per_word] |= bits << (at % per_word * integers.bits());
        }
    }
    words
}

/// The `dim` values of a row in storage. Words that are missing read as 0.
pub fn decode(integers: Integers, words: &[u32], dim: usize) -> Vec<f32> {
    let word = |at: usize| words.get(at).copied().unwrap_or(0);
    let data = integers.words(dim);
    let per_word = 32 / integers.bits();
    (0..dim)
        .map(|at| {
            let block = at / BLOCK;
            let scale = f16::from_bits((word(data + block / 2) >> (block % 2 * 16)) as u16);
            let bits = word(at / per_word) >> (at % per_word * integers.bits());
            let steps = match integers {
                Integers::Eight => i32::from(bits as u8 as i8),
                Integers::Four => (bits & 15) as i32 - 8,
            };
            steps as f32 * scale.to_f32()
        })
        .collect()
}

/// The Walsh-Hadamard transform of each run of `block` elements of a row, scaled to keep lengths and so
/// its own inverse, where `block` is the largest power of two that divides the row's length. Rotating
/// queries and keys by it leaves their products as they are and spreads a few large elements over all
/// (Ashkboos et al. 2024, QuaRot).
pub fn hadamard(row: &[f64]) -> Vec<f64> {
    let mut row = row.to_vec();
    let block = hadamard_block(row.len());
    let mut half = 1;
    while half < block {
        for pair in 0..row.len() / 2 {
            let low = pair / half * half * 2 + pair % half;
            let (a, b) = (row[low], row[low + half]);
            row[low] = a + b;
            row[low + half] = a - b;
        }
        half *= 2;
    }
    let scale = 1.0 / (block as f64).sqrt();
    row.iter().map(|value| value * scale).collect()
}

/// The largest power of two that divides `dim`: elements that one transform mixes.
pub fn hadamard_block(dim: usize) -> usize {
    if dim == 0 {
        1
    } else {
        1 << dim.trailing_zeros()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOTH: [Integers; 2] = [Integers::Eight, Integers::Four];

    #[test]
    fn row_is_stored_integers_first() {
        let mut row = [0.0f32; 64];
        row[0] = 127.0;
        row[5] = -3.0;
        row[33] = 254.0;
        let words = encode(Integers::Eight, &row);
        assert_eq!(words.len(), 17);
        assert_eq!((words[0], words[1]), (127, 0xfd00));
        assert_eq!(words[8], 127 << 8);
        let scale = |value: f32| u32::from(f16::from_f32(value).to_bits());
        assert_eq!(words[16], scale(1.0) | scale(2.0) << 16);

        let mut row = [0.0f32; 40];
        row[1] = 16.0; // the largest is -8 scales of -2
        row[2] = -14.0;
        let words = encode(Integers::Four, &row);
        assert_eq!(words.len(), 6);
        assert_eq!(words[0], 0x8888_8f08);
        assert_eq!(words[5], scale(-2.0)); // the second block is zero
        assert_eq!(decode(Integers::Four, &words, 40), row);
    }

    #[test]
    fn huge_and_tiny_rows_stay_finite() {
        for integers in BOTH {
            for value in [f32::MAX, -f32::MAX, f32::MIN_POSITIVE, 1e-40, 0.0] {
                let decoded = decode(integers, &encode(integers, &[value; 8]), 8);
                assert!(decoded.iter().all(|v| v.is_finite()), "{value} {decoded:?}");
            }
        }
    }

    #[test]
    fn rotation_keeps_products_and_undoes_itself() {
        for dim in [4usize, 40, 64, 96, 128, 80] {
            let row = |seed: usize| -> Vec<f64> {
                (0..dim)
                    .map(|i| ((i * 37 + seed * 11) % 23) as f64 - 11.0)
                    .collect()
            };
            let (q, k) = (row(1), row(2));
            let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
            let rotated = dot(&hadamard(&q), &hadamard(&k));
            assert!((dot(&q, &k) - rotated).abs() < 1e-9, "{dim}");
            let twice = hadamard(&hadamard(&q));
            assert!(q.iter().zip(twice).all(|(a, b)| (a - b).abs() < 1e-12));
        }
        // One large element is spread over all that the transform mixes.
        assert_eq!(hadamard(&[8.0, 0.0, 0.0, 0.0]), [4.0; 4]);
    }

    proptest! {
        #[test]
        fn stored_values_are_within_the_bound(
            values in prop::collection::vec(-1f32..1.0, 1..70),
            exponent in -20i32..15,
        ) {
            let row: Vec<f32> = values.iter().map(|v| v * 2f32.powi(exponent)).collect();
            for integers in BOTH {
                let decoded = decode(integers, &encode(integers, &row), row.len());
                for (block, decoded) in row.chunks(BLOCK).zip(decoded.chunks(BLOCK)) {
                    let largest = block.iter().fold(0f64, |m, v| m.max(f64::from(v.abs())));
                    let bound = integers.error_bound(largest);
                    for (a, b) in block.iter().zip(decoded) {
                        prop_assert!(f64::from((a - b).abs()) <= bound, "{a} {b} {bound}");
                    }
                }
            }
        }
    }
}
