//! Bytes of each format for given values: test data.

use super::BlockFormat;
use crate::reference::{ReferenceError, check_length};

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
            BlockFormat::Bf16 => bytes.extend(half::bf16::from_f32(block[0]).to_le_bytes()),
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
                let (low, high) = range(block);
                let d = push_half(&mut bytes, (high - low) / 15.0);
                let m = push_half(&mut bytes, low);
                let levels: Vec<u8> = block
                    .iter()
                    .map(|&x| level(x, d, m, 0.0, 15.0) as u8)
                    .collect();
                push_nibbles(&mut bytes, &levels);
            }
            BlockFormat::Q5_0 => {
                let d = push_half(&mut bytes, largest_magnitude(block) / -16.0);
                let levels: Vec<u8> = block
                    .iter()
                    .map(|&x| (level(x, d, 0.0, -16.0, 15.0) + 16.0) as u8)
                    .collect();
                push_fives(&mut bytes, &levels);
            }
            BlockFormat::Q5_1 => {
                let (low, high) = range(block);
                let d = push_half(&mut bytes, (high - low) / 31.0);
                let m = push_half(&mut bytes, low);
                let levels: Vec<u8> = block
                    .iter()
                    .map(|&x| level(x, d, m, 0.0, 31.0) as u8)
                    .collect();
                push_fives(&mut bytes, &levels);
            }
            BlockFormat::Q4K => push_q4_or_q5(&mut bytes, block, 15.0),
            BlockFormat::Q5K => push_q4_or_q5(&mut bytes, block, 31.0),
            BlockFormat::Q6K => push_q6(&mut bytes, block),
        }
    }
    Ok(bytes)
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

fn push_fives(bytes: &mut Vec<u8>, levels: &[u8]) {
    let word = |word: u32, (j, level): (usize, &u8)| word | u32::from(level >> 4) << j;
    let fifth = levels.iter().enumerate().fold(0, word);
    bytes.extend(fifth.to_le_bytes());
    let nibbles: Vec<u8> = levels.iter().map(|level| level & 15).collect();
    push_nibbles(bytes, &nibbles);
}

fn range(block: &[f32]) -> (f32, f32) {
    let low = block.iter().copied().fold(f32::INFINITY, f32::min);
    let high = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    (low, high)
}

/// Q4_K for `most` = 15, Q5_K for 31: blocks of 32, each from a minimum of at most 0.
fn push_q4_or_q5(bytes: &mut Vec<u8>, values: &[f32], most: f32) {
    let ranges: Vec<(f32, f32)> = values.chunks_exact(32).map(range).collect();
    let minima: Vec<f32> = ranges.iter().map(|(low, _)| -low.min(0.0)).collect();
    let scales: Vec<f32> = (ranges.iter().zip(&minima))
        .map(|((_, high), minimum)| (high + minimum).max(0.0) / most)
        .collect();
    let largest = |items: &[f32]| items.iter().copied().fold(0.0, f32::max);
    let d = push_half(bytes, largest(&scales) / 63.0);
    let m = push_half(bytes, largest(&minima) / 63.0);
    let six = |x: &f32, d: f32| level(*x, d, 0.0, 0.0, 63.0) as u8;
    let s: Vec<u8> = scales.iter().map(|x| six(x, d)).collect();
    let t: Vec<u8> = minima.iter().map(|x| six(x, m)).collect();
    bytes.extend((0..4).map(|b| s[b] | s[b + 4] >> 4 << 6));
    bytes.extend((0..4).map(|b| t[b] | t[b + 4] >> 4 << 6));
    bytes.extend((0..4).map(|b| s[b + 4] & 15 | (t[b + 4] & 15) << 4));
    let levels: Vec<u8> = (values.iter().enumerate())
        .map(|(j, &x)| {
            let (scale, minimum) = (d * f32::from(s[j / 32]), m * f32::from(t[j / 32]));
            level(x, scale, -minimum, 0.0, most) as u8
        })
        .collect();
    if most > 15.0 {
        let bit = |l: usize, b: usize| (levels[32 * b + l] >> 4) << b;
        bytes.extend((0..32).map(|l| (0..8).map(|b| bit(l, b)).sum::<u8>()));
    }
    for pair in levels.chunks_exact(64) {
        bytes.extend((0..32).map(|l| pair[l] & 15 | (pair[32 + l] & 15) << 4));
    }
}

fn push_q6(bytes: &mut Vec<u8>, values: &[f32]) {
    let scales: Vec<f32> = (values.chunks_exact(16))
        .map(|block| largest_magnitude(block) / -32.0)
        .collect();
    let mut factor = Vec::new();
    let d = push_half(&mut factor, largest_magnitude(&scales).abs() / 127.0);
    let s: Vec<i8> = (scales.iter())
        .map(|&x| level(x, d, 0.0, -127.0, 127.0) as i8)
        .collect();
    let levels: Vec<u8> = (values.iter().enumerate())
        .map(|(j, &x)| {
            let scale = d * f32::from(s[j / 16]);
            (level(x, scale, 0.0, -32.0, 31.0) + 32.0) as u8
        })
        .collect();
    for half in levels.chunks_exact(128) {
        bytes.extend((0..64).map(|l| half[l] & 15 | (half[64 + l] & 15) << 4));
    }
    for half in levels.chunks_exact(128) {
        let pair = |l: usize, quarter: usize| (half[32 * quarter + l] >> 4) << (2 * quarter);
        bytes.extend((0..32).map(|l| (0..4).map(|quarter| pair(l, quarter)).sum::<u8>()));
    }
    bytes.extend(s.iter().map(|&s| s as u8));
    bytes.extend(factor);
}
