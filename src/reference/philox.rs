//! Philox4x32-10, the counter-based random generator (Salmon et al. 2011, "Parallel random numbers: as
//! easy as 1, 2, 3").
//!
//! A number depends on the seed and on *what it is for*: the absolute position, the child's ordinal
//! and the purpose. It never depends on a slot, a batch index or how many numbers were drawn before,
//! so a request's output is the same whatever else is in the batch.

/// What a random number is used for; numbers of different purposes are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
#[non_exhaustive]
pub enum Purpose {
    /// Sampling a drafted token.
    Draft = 0,
    /// Deciding whether a drafted token is accepted.
    Accept = 1,
    /// Sampling the bonus token, or a token of the residual.
    Sample = 2,
    /// Deciding with how many tokens a chain is kept, where tokens are decided on together.
    AcceptBlock = 3,
    /// Deciding whether a node of a tree is kept whole, from the leaves to the root.
    AcceptTraversal = 4,
}

/// The counter of one draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Draw {
    /// Absolute position of the token in its sequence.
    pub position: u32,
    /// Ordinal of the child among its siblings, in draw order. The number of the node in its tree for
    /// [`Purpose::AcceptTraversal`], which tests cousins too.
    pub child: u32,
    /// What the number is for.
    pub purpose: Purpose,
    /// Number of the block of four, where one draw needs more. For [`Purpose::AcceptBlock`] and
    /// [`Purpose::AcceptTraversal`] the node's depth below the root: these rules look past the last token
    /// that they keep, so the next step tests the same positions again, and needs numbers that had no
    /// part in throwing the earlier draft away.
    pub block: u32,
}

/// Four random words for `counter` under `key`: ten rounds.
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    let [mut k0, mut k1] = key;
    for _ in 0..10 {
        let (high0, low0) = widening_multiply(0xD251_1F53, c0);
        let (high1, low1) = widening_multiply(0xCD9E_8D57, c2);
        (c0, c1, c2, c3) = (high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0);
        // The golden ratio and the square root of three less one, as fractions of 2^32.
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
    }
    [c0, c1, c2, c3]
}

/// The four random words of `draw` under `seed`.
pub fn words(seed: u64, draw: Draw) -> [u32; 4] {
    philox4x32_10(
        [draw.position, draw.child, draw.purpose as u32, draw.block],
        [seed as u32, (seed >> 32) as u32],
    )
}

/// A number in `[0, 1)` from a random word: its upper 24 bits, so that f32 holds it exactly.
pub fn uniform(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// The high and the low word of `a * b`, from 16-bit halves: WGSL has no 64-bit integer, and this is
/// the shader's own way.
pub fn widening_multiply(a: u32, b: u32) -> (u32, u32) {
    let (a_high, a_low) = (a >> 16, a & 0xFFFF);
    let (b_high, b_low) = (b >> 16, b & 0xFFFF);
    let low = a_low * b_low;
    // Neither sum overflows: (2^16 - 1)^2 + 2 (2^16 - 1) = 2^32 - 1.
    let middle = a_high * b_low + (low >> 16);
    let cross = a_low * b_high + (middle & 0xFFFF);
    let high = a_high * b_high + (middle >> 16) + (cross >> 16);
    (high, cross << 16 | low & 0xFFFF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn published_known_answers() {
        // From the authors' Random123 library, file kat_vectors, rows "philox4x32 10".
        let cases = [
            (
                [0; 4],
                [0; 2],
                [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
            ),
            (
                [u32::MAX; 4],
                [u32::MAX; 2],
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
            ),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(philox4x32_10(counter, key), expected);
        }
    }

    #[test]
    fn uniform_is_below_one_and_reaches_zero() {
        assert_eq!(uniform(0), 0.0);
        assert_eq!(uniform(255), 0.0);
        assert_eq!(uniform(u32::MAX), 1.0 - 2f32.powi(-24));
    }

    #[test]
    fn every_part_of_the_draw_changes_the_words() {
        let draw = Draw {
            position: 5,
            child: 0,
            purpose: Purpose::Accept,
            block: 0,
        };
        let others = [
            words(1 << 40, draw),
            words(
                0,
                Draw {
                    position: 6,
                    ..draw
                },
            ),
            words(0, Draw { child: 1, ..draw }),
            words(
                0,
                Draw {
                    purpose: Purpose::Sample,
                    ..draw
                },
            ),
            words(0, Draw { block: 1, ..draw }),
        ];
        assert!(others.iter().all(|&other| other != words(0, draw)));
    }

    #[test]
    fn uniform_numbers_have_the_mean_and_variance_of_the_law() {
        let count = 40_000;
        let draws = (0..count).flat_map(|position| {
            words(
                42,
                Draw {
                    position,
                    child: 0,
                    purpose: Purpose::Draft,
                    block: 0,
                },
            )
        });
        let (mut sum, mut squares) = (0.0, 0.0);
        for word in draws {
            let u = f64::from(uniform(word));
            sum += u;
            squares += u * u;
        }
        let mean = sum / (4.0 * f64::from(count));
        let variance = squares / (4.0 * f64::from(count)) - mean * mean;
        // Six standard deviations of the mean are 0.0043.
        assert!((mean - 0.5).abs() < 0.0045, "{mean}");
        assert!((variance - 1.0 / 12.0).abs() < 0.002, "{variance}");
    }

    proptest! {
        #[test]
        fn multiply_by_halves_equals_the_64_bit_product(a: u32, b: u32) {
            let product = u64::from(a) * u64::from(b);
            prop_assert_eq!(widening_multiply(a, b), ((product >> 32) as u32, product as u32));
        }
    }
}
