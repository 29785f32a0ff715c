//! From blocks as ggml stores them to what kernels read: 32 elements in 16-byte units, and the fields
//! that lie beside them (scales, minima, upper bits).
//!
//! Source of the stored layouts: `ggml-common.h` of ggml. On the GPU a block of quantised elements is
//! always the same: byte `i` of its 16 has the low four bits of elements `i` and `i + 16`.

use super::{WeightType, weight_type::BLOCK};

/// A group as the GPU has it, of one row.
pub(super) struct Group {
    /// Elements, `[block, quant_bytes]`.
    pub quants: [u8; 128],
    /// The fields of [`WeightType::scale_fields`], one after the other.
    pub scales: [u8; 84],
}

impl Default for Group {
    fn default() -> Self {
        Self {
            quants: [0; 128],
            scales: [0; 84],
        }
    }
}

impl Group {
    /// Fills in `stored`, a group of `ty`; one of floats may be cut short.
    pub fn fill(&mut self, ty: WeightType, stored: &[u8]) {
        let (quants, scales) = (&mut self.quants, &mut self.scales);
        match ty {
            WeightType::F32 | WeightType::F16 | WeightType::Bf16 => {
                quants[..stored.len()].copy_from_slice(stored);
            }
            WeightType::Q8_0 | WeightType::Q4_0 | WeightType::Q4_1 => {
                let (head, elements) = stored.split_at(ty.scale_bytes());
                scales[..head.len()].copy_from_slice(head);
                quants[..elements.len()].copy_from_slice(elements);
            }
            // Scales, a word of fifth bits, nibbles: the word goes before the scales.
            WeightType::Q5_0 | WeightType::Q5_1 => {
                let (head, nibbles) = stored.split_at(ty.scale_bytes());
                let (factors, fifth) = head.split_at(head.len() - 4);
                scales[..4].copy_from_slice(fifth);
                scales[4..head.len()].copy_from_slice(factors);
                quants[..16].copy_from_slice(nibbles);
            }
            WeightType::Q4K => {
                let (head, nibbles) = stored.split_at(16);
                scales[..4].copy_from_slice(&head[..4]);
                steps(&head[4..], &mut scales[4..20]);
                nibbles_of_pairs(nibbles, quants);
            }
            WeightType::Q5K => {
                let (head, rest) = stored.split_at(16);
                let (fifth, nibbles) = rest.split_at(32);
                scales[..4].copy_from_slice(&head[..4]);
                steps(&head[4..], &mut scales[4..20]);
                for block in 0..8 {
                    let bit = |i: usize| u32::from(fifth[i] >> block & 1) << i;
                    let word: u32 = (0..BLOCK).map(bit).sum();
                    scales[20 + 4 * block..][..4].copy_from_slice(&word.to_le_bytes());
                }
                nibbles_of_pairs(nibbles, quants);
            }
            WeightType::Q6K => six_bits(stored, quants, scales),
        }
    }
}

/// The 6-bit scale and minimum of 8 blocks from 12 bytes, as 16 bytes: scale and minimum in turn.
fn steps(packed: &[u8], out: &mut [u8]) {
    for block in 0..4 {
        // The first four have bytes of their own, whose upper two bits belong to the last four.
        let (scale, minimum, rest) = (packed[block], packed[block + 4], packed[block + 8]);
        out[2 * block] = scale & 63;
        out[2 * block + 1] = minimum & 63;
        out[2 * (block + 4)] = rest & 15 | scale >> 6 << 4;
        out[2 * (block + 4) + 1] = rest >> 4 | minimum >> 6 << 4;
    }
}

/// 32 bytes with the low nibbles of one block of 32 and the high nibbles of the next, four times.
fn nibbles_of_pairs(stored: &[u8], out: &mut [u8]) {
    for (pair, bytes) in stored.chunks_exact(32).enumerate() {
        for i in 0..16 {
            let (a, b) = (bytes[i], bytes[i + 16]);
            out[32 * pair + i] = a & 15 | b << 4;
            out[32 * pair + 16 + i] = a >> 4 | b & 0xf0;
        }
    }
}

/// Q6_K: halves of 128 elements, in each of which a byte has the low nibbles of elements `l` and
/// `l + 64`, and one has the upper pairs of bits of `l`, `l + 32`, `l + 64` and `l + 96`.
fn six_bits(stored: &[u8], quants: &mut [u8], scales: &mut [u8]) {
    let (low, rest) = stored.split_at(128);
    let (upper, rest) = rest.split_at(64);
    let (steps, factor) = rest.split_at(16);
    scales[..2].copy_from_slice(factor);
    scales[4..20].copy_from_slice(steps);
    for block in 0..8 {
        let (half, quarter) = (block / 4, block % 4);
        let nibble = |l: usize| low[64 * half + 32 * (quarter % 2) + l] >> (4 * (quarter / 2)) & 15;
        let pair = |l: usize| upper[32 * half + l] >> (2 * quarter) & 3;
        for i in 0..16 {
            quants[16 * block + i] = nibble(i) | nibble(i + 16) << 4;
        }
        for quad in 0..8 {
            let bits = (0..4).map(|i| pair(4 * quad + i) << (2 * i));
            scales[20 + 8 * block + quad] = bits.sum();
        }
    }
}
