//! `--tree`: how much is drafted.

use std::str::FromStr;

use sunfleck::draft::{Bounded, Drafter};

/// The most nodes that may be asked for.
const MOST: usize = 256;

/// How much is drafted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeSize {
    /// What pays, by measured costs.
    Auto,
    /// Chains of so many drafted tokens.
    Chain(usize),
    /// Trees of so many nodes, the root included.
    Nodes(usize),
}

impl FromStr for TreeSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str, range: std::ops::RangeInclusive<usize>| match text.parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(format!(
                "it is `auto`, `chain:K` with K from 1 to {}, or N from 1 to {MOST}",
                MOST - 1
            )),
        };
        match (text, text.strip_prefix("chain:")) {
            ("auto", _) => Ok(Self::Auto),
            (_, Some(tokens)) => number(tokens, 1..=MOST - 1).map(Self::Chain),
            _ => number(text, 1..=MOST).map(Self::Nodes),
        }
    }
}

impl TreeSize {
    /// Drafted tokens that a step has to have room for, if more than the usual ones.
    pub fn max_draft(self) -> u32 {
        match self {
            Self::Auto => 0,
            Self::Chain(tokens) => tokens as u32,
            Self::Nodes(nodes) => nodes as u32 - 1,
        }
    }

    /// Whether trees are wanted rather than chains.
    pub fn has_branches(self) -> bool {
        !matches!(self, Self::Chain(_))
    }

    /// `drafter`, held to this size; `auto` is left as it is, since it needs a session to measure.
    pub fn bound(self, drafter: Box<dyn Drafter>) -> Box<dyn Drafter> {
        match self {
            Self::Auto => drafter,
            Self::Chain(tokens) => Box::new(Bounded::chain(drafter, tokens)),
            Self::Nodes(nodes) => Box::new(Bounded::tree(drafter, nodes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_nonsense_is_refused() {
        for (text, size) in [
            ("auto", TreeSize::Auto),
            ("chain:4", TreeSize::Chain(4)),
            ("16", TreeSize::Nodes(16)),
        ] {
            assert_eq!(text.parse(), Ok(size));
        }
        for text in [
            "",
            "chain",
            "chain:",
            "chain:0",
            "chain:256",
            "0",
            "257",
            "-1",
            "tree:4",
        ] {
            let error = text.parse::<TreeSize>().unwrap_err();
            assert!(error.contains("chain:K"), "{text}: {error}");
        }
        assert_eq!(TreeSize::Nodes(32).max_draft(), 31);
    }
}
