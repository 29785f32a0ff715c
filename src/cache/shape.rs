//! What a cache holds of each token.

use super::CacheError;
use crate::ops::Element;

/// What a cache holds of each token: the same for all sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheShape {
    /// Decoder layers.
    pub layers: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Elements of a key head, a multiple of 4.
    pub head_dim: u32,
    /// Elements of a value head, a multiple of 4.
    pub value_dim: u32,
    /// Element type of the keys.
    pub key: Element,
    /// Element type of the values.
    pub value: Element,
    /// Whether keys are stored rotated by a Hadamard transform, and queries rotated too, which leaves
    /// the scores as they are. It spreads a key's few large elements over its head, so that
    /// integers with a scale a block hold them better (Ashkboos et al. 2024, QuaRot).
    pub rotate_keys: bool,
}

impl CacheShape {
    /// Keys and values of one element type and head size; keys are rotated where they are quantised.
    pub fn new(layers: u32, kv_heads: u32, head_dim: u32, element: Element) -> Self {
        Self {
            layers,
            kv_heads,
            head_dim,
            value_dim: head_dim,
            key: element,
            value: element,
            rotate_keys: element.is_quantised(),
        }
    }

    /// Bytes of one token's keys and values in all layers.
    pub fn token_bytes(&self) -> u64 {
        (self.key_row_bytes() + self.value_row_bytes())
            .saturating_mul(u64::from(self.kv_heads))
            .saturating_mul(u64::from(self.layers))
    }

    /// Bytes of one token's key in one head.
    pub(super) fn key_row_bytes(&self) -> u64 {
        self.key.row_bytes(self.head_dim)
    }

    /// Bytes of one token's value in one head.
    pub(super) fn value_row_bytes(&self) -> u64 {
        self.value.row_bytes(self.value_dim)
    }

    /// Elements of a key that one Hadamard transform mixes: the largest power of two that divides the
    /// head; 1 where keys are not rotated.
    pub(super) fn hadamard(&self) -> u32 {
        match self.rotate_keys {
            true => 1 << self.head_dim.trailing_zeros(),
            false => 1,
        }
    }

    /// Refuses sizes that no cache has.
    pub(crate) fn check(&self) -> Result<(), CacheError> {
        for (name, size) in [("layers", self.layers), ("kv_heads", self.kv_heads)] {
            if size == 0 {
                return Err(CacheError::Zero { name });
            }
        }
        for (name, dim) in [("head_dim", self.head_dim), ("value_dim", self.value_dim)] {
            if dim == 0 || !dim.is_multiple_of(4) || dim > 256 {
                return Err(CacheError::HeadDim { name, dim });
            }
        }
        Ok(())
    }
}
