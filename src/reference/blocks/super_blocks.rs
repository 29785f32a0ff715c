//! Elements of super-blocks of 256.

use super::half_at;

/// The 6-bit scale and minimum of block `b` of a Q4_K or Q5_K super-block: of the first four blocks in
/// the low bits of a byte each; of the last four, four bits each in a byte of their own and two each
/// at the top of the bytes of the first four.
fn scale_and_minimum(steps: &[u8], b: usize) -> (f64, f64) {
    let (s, t) = match b {
        0..4 => (steps[b] & 63, steps[b + 4] & 63),
        _ => (
            steps[b + 4] & 15 | (steps[b - 4] >> 6) << 4,
            steps[b + 4] >> 4 | (steps[b] >> 6) << 4,
        ),
    };
    (f64::from(s), f64::from(t))
}

/// The nibble of element `j`: 32 bytes hold two blocks, the first in their low nibbles.
fn nibble(nibbles: &[u8], j: usize) -> f64 {
    let (b, l) = (j / 32, j % 32);
    f64::from(nibbles[32 * (b / 2) + l] >> (4 * (b % 2)) & 15)
}

fn scaled(block: &[u8], j: usize, q: f64) -> f64 {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    let (s, t) = scale_and_minimum(&block[4..16], j / 32);
    d * s * q - m * t
}

/// Element `j` of a Q4_K super-block.
pub(super) fn q4(block: &[u8], j: usize) -> f64 {
    scaled(block, j, nibble(&block[16..], j))
}

/// Element `j` of a Q5_K super-block.
pub(super) fn q5(block: &[u8], j: usize) -> f64 {
    let fifth = block[16 + j % 32] >> (j / 32) & 1;
    scaled(block, j, nibble(&block[48..], j) + 16.0 * f64::from(fifth))
}

/// Element `j` of a Q6_K super-block.
pub(super) fn q6(block: &[u8], j: usize) -> f64 {
    let (half, quarter, l) = (j / 128, j % 128 / 32, j % 32);
    let low = block[64 * half + 32 * (quarter % 2) + l] >> (4 * (quarter / 2)) & 15;
    let upper = block[128 + 32 * half + l] >> (2 * quarter) & 3;
    let s = block[192 + j / 16] as i8;
    half_at(block, 208) * f64::from(s) * (f64::from(low | upper << 4) - 32.0)
}
