//! The families of decoders that are computed, and what sets each apart from Llama.

use std::fmt;

use crate::cache::RopePairs;

/// A family of decoders, by its name in GGUF files (`general.architecture`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Architecture {
    /// Llama, Mistral, SmolLM and SmolLM2.
    Llama,
    /// Qwen2 and Qwen2.5: biases of query, key and value.
    Qwen2,
    /// Qwen3: norms of query and key heads.
    Qwen3,
    /// SmolLM3: every fourth layer has no rotation.
    SmolLm3,
}

impl Architecture {
    /// All families.
    pub const ALL: [Self; 4] = [Self::Llama, Self::Qwen2, Self::Qwen3, Self::SmolLm3];

    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::SmolLm3 => "smollm3",
        }
    }

    /// The family of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.name() == name)
    }

    /// Which elements of a head rotate together in GGUF files: converters permute the rows of Llama's
    /// query and key projections so that they are neighbours.
    pub fn rope_pairs(self) -> RopePairs {
        match self {
            Self::Llama | Self::SmolLm3 => RopePairs::Interleaved,
            Self::Qwen2 | Self::Qwen3 => RopePairs::Halves,
        }
    }

    /// Every layer whose number, from 1, is a multiple of this has no rotation.
    pub fn no_rope_interval(self) -> Option<u32> {
        match self {
            Self::SmolLm3 => Some(4),
            _ => None,
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_family_and_no_other() {
        for family in Architecture::ALL {
            assert_eq!(Architecture::from_name(family.name()), Some(family));
        }
        assert_eq!(Architecture::from_name("Llama"), None);
    }
}
