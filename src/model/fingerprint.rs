//! What tells one model from another: a hash of its tensors.

use std::io::{Read, Seek};

use super::{Gguf, GgufError, Hyperparameters};

/// Bytes that are read at a tensor's start and middle: enough to tell fine-tuned models apart.
const SAMPLE: u64 = 1 << 10;

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

/// Hash of what decides a model's keys and values: the tensors' names, shapes, types and some of their bytes,
/// and the constants of rotation and norm.
pub(super) fn fingerprint<R: Read + Seek>(
    gguf: &Gguf,
    h: &Hyperparameters,
    reader: &mut R,
) -> Result<u64, GgufError> {
    let mut hash = Fnv::new();
    for value in [h.rope_freq_base, h.rope_scale, h.rms_epsilon] {
        hash.add(&value.to_bits().to_le_bytes());
    }
    hash.add(&h.head_count.to_le_bytes());
    hash.add(&h.rope_dimension_count.to_le_bytes());
    let mut bytes = Vec::new();
    for tensor in gguf.tensors() {
        hash.add(tensor.name.as_bytes());
        hash.add(&[0]); // a name's end
        for size in &tensor.shape {
            hash.add(&size.to_le_bytes());
        }
        hash.add(format!("{:?}", tensor.kind).as_bytes());
        let sample = SAMPLE.min(tensor.byte_len);
        for start in [0, (tensor.byte_len - sample) / 2] {
            gguf.read_tensor_bytes(reader, tensor, start..start + sample, &mut bytes)?;
            hash.add(&bytes);
        }
    }
    Ok(hash.value())
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
