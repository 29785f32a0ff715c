//! What tells one model from another: a hash of its tensors.

use super::{Hyperparameters, TensorInfo};

/// Bytes that count of each MiB that is read: enough to tell fine-tuned models apart.
const SAMPLE: usize = 1 << 10;

/// FNV-1a of 64 bits (Fowler, Noll, Vo): finds accidents, not attacks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fnv(u64);

impl Fnv {
    pub fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    pub fn value(self) -> u64 {
        self.0
    }
}

/// Hash of what decides a model's keys and values: the constants of rotation and norm, and tensors as they are
/// loaded: names, types and some of their bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fingerprint(Fnv);

impl Fingerprint {
    /// Takes bytes of a tensor, from byte `start` on.
    pub fn add(&mut self, tensor: &TensorInfo, start: u64, bytes: &[u8]) {
        self.0.add(tensor.name.as_bytes());
        self.0.add(format!("{:?}", tensor.kind).as_bytes());
        self.0.add(&start.to_le_bytes());
        self.0.add(&bytes[..bytes.len().min(SAMPLE)]);
    }

    /// With the constants of the model that the tensors are of.
    pub fn of_model(self, h: &Hyperparameters) -> u64 {
        let mut hash = self.0;
        let scaling = h.rope_scaling.numbers();
        for value in [h.rope_freq_base, h.rms_epsilon].iter().chain(&scaling) {
            hash.add(&value.to_bits().to_le_bytes());
        }
        hash.add(&h.head_count.to_le_bytes());
        hash.add(&h.rope_dimension_count.to_le_bytes());
        hash.value()
    }
}

impl Default for Fingerprint {
    /// Of no tensor yet.
    fn default() -> Self {
        Self(Fnv::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_authors() {
        // From the test vectors of the Internet draft (draft-eastlake-fnv).
        let of = |text: &str| {
            let mut hash = Fnv::new();
            hash.add(text.as_bytes());
            hash.value()
        };
        assert_eq!(of(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(of("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(of("foobar"), 0x8594_4171_f739_67e8);
    }
}
