//! A drafter held to a fixed size.

use super::{DraftContext, DraftError, DraftLimits, Drafted, Drafter, Outcome, Recording};

/// Holds a drafter to chains of a length, or to trees of a number of nodes.
pub struct Bounded {
    name: String,
    inner: Box<dyn Drafter>,
    max_nodes: usize,
    max_depth: usize,
    branches: bool,
}

impl Bounded {
    /// Chains of at most `tokens` drafted tokens.
    pub fn chain(inner: Box<dyn Drafter>, tokens: usize) -> Self {
        Self {
            name: format!("{} chain:{tokens}", inner.name()),
            inner,
            max_nodes: usize::MAX,
            max_depth: tokens,
            branches: false,
        }
    }

    /// Trees of at most `nodes` nodes, the root included.
    pub fn tree(inner: Box<dyn Drafter>, nodes: usize) -> Self {
        Self {
            name: format!("{} tree:{nodes}", inner.name()),
            inner,
            max_nodes: nodes.max(1),
            max_depth: usize::MAX,
            branches: true,
        }
    }
}

impl Drafter for Bounded {
    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> DraftLimits {
        let limits = self.inner.limits();
        DraftLimits {
            nodes: limits.nodes.min(self.max_nodes),
            depth: limits.depth.min(self.max_depth),
            branches: limits.branches && self.branches,
            ..limits
        }
    }

    fn draft(&mut self, context: &DraftContext<'_>) -> Result<Drafted, DraftError> {
        self.inner.draft(&DraftContext {
            max_nodes: context.max_nodes.min(self.max_nodes),
            max_depth: context.max_depth.min(self.max_depth),
            branches: context.branches && self.branches,
            ..*context
        })
    }

    fn record(&mut self, recording: &mut Recording<'_>) -> Result<(), DraftError> {
        self.inner.record(recording)
    }

    fn observe(&mut self, outcome: &Outcome<'_>) {
        self.inner.observe(outcome);
    }

    fn explain(&self) -> Option<String> {
        self.inner.explain()
    }

    fn reset(&mut self) {
        self.inner.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::{NgramDrafter, NgramOptions};

    fn ngram() -> Box<NgramDrafter> {
        let options = NgramOptions {
            matches: 4,
            min_ngram: 1,
            ..NgramOptions::default()
        };
        Box::new(NgramDrafter::new(options).unwrap())
    }

    #[test]
    fn drafts_have_the_size_that_was_asked_for() {
        // 1 was followed by 2, 3 and 4.
        let committed = [1, 2, 9, 8, 1, 3, 9, 8, 1, 4, 9, 8, 1];
        let context = DraftContext::new(&committed, 32, 32);
        let drafted = |mut drafter: Bounded| drafter.draft(&context).unwrap().tree().clone();
        let chain = drafted(Bounded::chain(ngram(), 3));
        assert!(chain.is_chain() && chain.drafted() == 3, "{chain:?}");
        let tree = drafted(Bounded::tree(ngram(), 12));
        assert!(!tree.is_chain() && tree.len() <= 12, "{tree:?}");
        assert_eq!(drafted(Bounded::tree(ngram(), 0)).len(), 1);
        assert_eq!(Bounded::chain(ngram(), 3).name(), "ngram chain:3");
    }
}
