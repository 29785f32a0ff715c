//! Rounding through a storage type: what a value becomes when a kernel keeps it in memory.

use super::Element;

/// The type in which a tensor lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Storage {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
}

impl Storage {
    /// `value` after a store to this type and a load back; round to nearest, ties to even.
    pub fn round(self, value: f64) -> f64 {
        match self {
            Storage::F32 => f64::from(value as f32),
            Storage::F16 => half::f16::from_f32(to_odd(value)).to_f64(),
            Storage::Bf16 => half::bf16::from_f32(to_odd(value)).to_f64(),
        }
    }

    /// Every element of `values` after a store to this type and a load back.
    pub fn round_all(self, values: &[impl Element]) -> Vec<f64> {
        values
            .iter()
            .map(|&value| self.round(value.into()))
            .collect()
    }
}

/// `value` as an f32, rounded to the neighbour with an odd last bit where it is none: rounding that again to fewer
/// bits gives what rounding `value` itself would (Boldo and Melquiond 2008).
fn to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest) == value || !nearest.is_finite() || nearest.to_bits() & 1 == 1 {
        return nearest;
    }
    match f64::from(nearest) < value {
        true => nearest.next_up(),
        false => nearest.next_down(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_the_type_holds_are_unchanged() {
        for storage in [Storage::F32, Storage::F16, Storage::Bf16] {
            for value in [0.0, -0.5, 1.0, 96.0, f64::INFINITY, f64::NEG_INFINITY] {
                assert_eq!(storage.round(value), value, "{storage:?}");
            }
        }
    }

    #[test]
    fn rounding_is_to_nearest_and_ties_to_even() {
        // f16 has 11 significant bits: one step above 2048 is 2.
        assert_eq!(Storage::F16.round(2049.0), 2048.0);
        assert_eq!(Storage::F16.round(2051.0), 2052.0);
        // bf16 has 8 significant bits: one step above 256 is 2.
        assert_eq!(Storage::Bf16.round(257.0), 256.0);
        assert_eq!(Storage::Bf16.round(259.0), 260.0);
        assert_eq!(Storage::F32.round(16_777_217.0), 16_777_216.0);
        // A little above a tie is no tie, however little.
        for bit in [2f64.powi(-24), 2f64.powi(-40)] {
            assert_eq!(Storage::Bf16.round(257.0 + bit), 258.0);
            assert_eq!(Storage::F16.round(2049.0 + bit), 2050.0);
            assert_eq!(Storage::F16.round(2051.0 - bit), 2050.0);
        }
    }

    #[test]
    fn f16_overflows_to_infinity_where_bf16_does_not() {
        assert_eq!(Storage::F16.round(1e5), f64::INFINITY);
        assert!(Storage::Bf16.round(1e5).is_finite());
    }
}
