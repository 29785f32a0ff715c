//! The rules of acceptance, and which draft trees each of them fits.

use crate::tree::{DraftTree, DrawKind};

/// Which drafted tokens a verification keeps.
///
/// A *lossless* rule gives tokens with exactly the law of the target model, whatever was drafted, as
/// long as the tree says truly how its children were drawn ([`DrawKind`]). The two rules called lossy
/// change the law: they keep more tokens than the target model would have sampled.
///
/// ```
/// use sunfleck::{tree::{DraftTree, DrawKind}, verify::{Rule, RuleError}};
///
/// let tree = DraftTree::merge(7, &[[1], [2]], 8)?; // chosen without chance: DrawKind::TopK
/// assert!(Rule::Rejection.check(&tree, false).is_ok());
/// // Draft probabilities are not the law of tokens that were chosen without chance.
/// assert_eq!(
///     Rule::Rejection.check(&tree, true),
///     Err(RuleError::DraftProbabilitiesOfTopK),
/// );
/// assert!(matches!(Rule::Block.check(&tree, false), Err(RuleError::NotAChain { node: 0, .. })));
/// # Ok::<(), sunfleck::tree::TreeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Rule {
    /// Keep what the target model's argmax would have given. Equals decoding at temperature 0. Any tree.
    Greedy,
    /// Lossless. Test the children of a node in draw order against what is left of the target's
    /// distribution, and sample from the rest when none is accepted: Miao et al. 2023 (SpecInfer,
    /// algorithm 2) for independent draws, Yang et al. 2024 and Jeon et al. 2024 (recursive rejection
    /// sampling) for draws without replacement. Any tree.
    Rejection,
    /// Lossless. [`Rejection`](Self::Rejection) with one child a node, as in Leviathan et al. 2023
    /// (algorithm 1) and Chen et al. 2023 (algorithm 2). Chains only.
    ChainRejection,
    /// Lossless. Decide on the drafted tokens together, never keeping fewer in expectation than
    /// [`ChainRejection`](Self::ChainRejection): Sun et al. 2024 (block verification, algorithm 2).
    /// Chains only.
    Block,
    /// Lossless. From the leaves to the root, so that a node is kept whole: Weng et al. 2025 (traversal
    /// verification, algorithm 2). Any tree.
    Traversal,
    /// **Lossy.** Keep tokens that are not unlikely for how uncertain the target is: Cai et al. 2024
    /// (Medusa, section 2.3.1). Any tree.
    LossyTypical(LossyTypical),
    /// **Lossy.** Keep tokens whose probability under the target is above this number in `0..1`. Any tree.
    LossyThreshold(f32),
}

/// The bar of typical acceptance: keep `x` iff `p(x) > min(epsilon, delta exp(-H(p)))`.
///
/// ```
/// use sunfleck::verify::LossyTypical;
///
/// let medusa = LossyTypical::default();
/// assert_eq!((medusa.epsilon, medusa.delta), (0.3, 0.09));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossyTypical {
    /// The bar where the target is sure, in `0..1`. Default 0.3, as in Medusa's code.
    pub epsilon: f32,
    /// The bar's factor on `exp(-H)`, at least 0. Default 0.09, as in Medusa's code.
    pub delta: f32,
}

impl Default for LossyTypical {
    fn default() -> Self {
        Self {
            epsilon: 0.3,
            delta: 0.09,
        }
    }
}

/// Why a rule is not for a tree.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// A rule for chains, and a tree that branches.
    #[error(
        "{rule:?} is defined for chains, but node {node} has {children} children; use Rejection or \
         Traversal, or draft a chain"
    )]
    NotAChain {
        /// The rule.
        rule: Rule,
        /// The first node with more than one child.
        node: usize,
        /// Its children.
        children: usize,
    },
    /// Tokens drawn by chance, without the probabilities that they were drawn with.
    #[error(
        "{rule:?} needs the distribution from which the tokens were drawn, because the tree's draw is \
         {draw:?}; give the draft probabilities, or TopK as the draw if no chance was involved"
    )]
    NoDraftProbabilities {
        /// The rule.
        rule: Rule,
        /// How the tree's children were drawn.
        draw: DrawKind,
    },
    /// Tokens chosen without chance, with probabilities that they were *not* drawn with.
    #[error(
        "the tree's draw is TopK: its tokens were chosen, not sampled, and dividing by draft \
         probabilities would give a wrong law (for p = q = (.5, .3, .2) always the first token); leave \
         the draft probabilities out, or say Iid or WithoutReplacement if the tokens were sampled so"
    )]
    DraftProbabilitiesOfTopK,
    /// A number of the rule is out of its range.
    #[error("`{name}` of the rule is {given}; it must be {needed}")]
    Number {
        /// The number's name.
        name: &'static str,
        /// Its range.
        needed: &'static str,
        /// What was given.
        given: f32,
    },
}

impl Rule {
    /// Whether tokens have the law of the target model.
    pub fn is_lossless(self) -> bool {
        !matches!(self, Self::LossyTypical(_) | Self::LossyThreshold(_))
    }

    /// Whether the rule compares the target's distribution with the one that tokens were drawn from.
    pub fn uses_draw(self) -> bool {
        matches!(
            self,
            Self::Rejection | Self::ChainRejection | Self::Block | Self::Traversal
        )
    }

    /// Whether the rule is defined for chains only.
    pub fn is_for_chains(self) -> bool {
        matches!(self, Self::ChainRejection | Self::Block)
    }

    /// Refuses a tree that the rule does not fit. `has_draft_probabilities` says whether the
    /// distributions from which tokens were drawn are at hand.
    ///
    /// # Errors
    /// [`RuleError`], each with what to do instead.
    pub fn check(self, tree: &DraftTree, has_draft_probabilities: bool) -> Result<(), RuleError> {
        self.check_numbers()?;
        if self.is_for_chains() {
            for node in 0..tree.len() {
                let children = tree.children(node).count();
                if children > 1 {
                    return Err(RuleError::NotAChain {
                        rule: self,
                        node,
                        children,
                    });
                }
            }
        }
        self.check_draw(tree.draw(), has_draft_probabilities)
    }

    /// Refuses a draw that the rule does not fit, before any tree is known.
    ///
    /// # Errors
    /// [`RuleError::NoDraftProbabilities`], [`RuleError::DraftProbabilitiesOfTopK`].
    pub fn check_draw(
        self,
        draw: DrawKind,
        has_draft_probabilities: bool,
    ) -> Result<(), RuleError> {
        match (self.uses_draw(), draw, has_draft_probabilities) {
            (true, DrawKind::TopK, true) => Err(RuleError::DraftProbabilitiesOfTopK),
            (true, DrawKind::Iid | DrawKind::WithoutReplacement, false) => {
                Err(RuleError::NoDraftProbabilities { rule: self, draw })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn check_numbers(self) -> Result<(), RuleError> {
        let number = |holds: bool, name, needed, given| {
            if holds {
                return Ok(());
            }
            Err(RuleError::Number {
                name,
                needed,
                given,
            })
        };
        match self {
            Self::LossyTypical(LossyTypical { epsilon, delta }) => {
                let probability = "from 0 to 1";
                number(
                    (0.0..=1.0).contains(&epsilon),
                    "epsilon",
                    probability,
                    epsilon,
                )?;
                let factor = "finite and at least 0";
                number(delta.is_finite() && delta >= 0.0, "delta", factor, delta)
            }
            Self::LossyThreshold(bar) => {
                let probability = "from 0 to below 1";
                number((0.0..1.0).contains(&bar), "threshold", probability, bar)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::NONE;

    const RULES: [Rule; 7] = [
        Rule::Greedy,
        Rule::Rejection,
        Rule::ChainRejection,
        Rule::Block,
        Rule::Traversal,
        Rule::LossyTypical(LossyTypical {
            epsilon: 0.3,
            delta: 0.09,
        }),
        Rule::LossyThreshold(0.1),
    ];

    #[test]
    fn sampled_drafts_need_their_probabilities_and_chosen_ones_refuse_them() {
        let chain = DraftTree::chain(0, &[1, 2]).unwrap();
        for rule in RULES {
            for draw in [DrawKind::Iid, DrawKind::WithoutReplacement] {
                let tree = chain.clone().with_draw(draw).unwrap();
                assert!(rule.check(&tree, true).is_ok());
                let refused = Err(RuleError::NoDraftProbabilities { rule, draw });
                let expected = if rule.uses_draw() { refused } else { Ok(()) };
                assert_eq!(rule.check(&tree, false), expected);
            }
            assert!(rule.check(&chain, false).is_ok());
            assert_eq!(rule.check(&chain, true).is_err(), rule.uses_draw());
        }
    }

    #[test]
    fn rules_for_chains_refuse_a_fork_and_name_it() {
        let tree =
            DraftTree::from_parents(vec![0, 1, 2, 3], vec![NONE, 0, 1, 1], DrawKind::TopK).unwrap();
        for rule in RULES {
            let refused = rule.check(&tree, false);
            match rule {
                Rule::ChainRejection | Rule::Block => {
                    let error = refused.unwrap_err();
                    assert_eq!(
                        error,
                        RuleError::NotAChain {
                            rule,
                            node: 1,
                            children: 2
                        }
                    );
                    assert!(error.to_string().contains("use Rejection or Traversal"));
                }
                _ => assert!(refused.is_ok()),
            }
        }
    }

    #[test]
    fn only_the_rules_named_lossy_are_lossy() {
        for rule in RULES {
            assert_eq!(
                rule.is_lossless(),
                !format!("{rule:?}").starts_with("Lossy")
            );
        }
    }

    #[test]
    fn numbers_outside_their_range_are_refused() {
        let chain = DraftTree::root_only(0);
        let typical = |epsilon, delta| Rule::LossyTypical(LossyTypical { epsilon, delta });
        for rule in [
            typical(1.5, 0.1),
            typical(f32::NAN, 0.1),
            typical(0.3, -1.0),
            typical(0.3, f32::INFINITY),
            Rule::LossyThreshold(1.0),
            Rule::LossyThreshold(f32::NAN),
        ] {
            assert!(matches!(
                rule.check(&chain, false),
                Err(RuleError::Number { .. })
            ));
        }
    }
}
