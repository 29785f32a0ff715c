//! The grammar of the answer that is being generated, and the masks of a draft tree.

use std::sync::Arc;

use super::{Grammar, GrammarError, GrammarState};
use crate::tree::{DraftTree, TreeError};

/// A grammar and where the answer stands in it.
pub(in crate::generate) struct Constraint {
    state: Box<dyn GrammarState>,
    words: usize,     // of a mask
    tokens: usize,    // of the answer, as the state has them
    take_back: usize, // of them, the last ones that the session took back
}

/// A draft tree without the drafts that the grammar forbids, and a mask a node.
#[derive(Debug, PartialEq)]
pub(in crate::generate) struct Restricted {
    pub tree: DraftTree,
    /// `[node, word]`
    pub masks: Vec<u32>,
}

impl Constraint {
    /// Begins an answer of a model with `vocabulary` tokens.
    pub fn begin(grammar: &Arc<dyn Grammar>, vocabulary: u32) -> Result<Self, GrammarError> {
        Ok(Self {
            state: grammar.begin()?,
            words: vocabulary.div_ceil(32) as usize,
            tokens: 0,
            take_back: 0,
        })
    }

    /// Goes on by tokens of the answer, which were chosen under its masks.
    pub fn advance(&mut self, tokens: &[u32]) -> Result<(), GrammarError> {
        self.settle()?;
        for &token in tokens {
            self.state.push(token)?;
            self.tokens += 1;
        }
        Ok(())
    }

    /// The answer is `tokens` tokens shorter than it was.
    pub fn take_back(&mut self, tokens: usize) {
        self.take_back = self.tokens.min(self.take_back + tokens);
    }

    fn settle(&mut self) -> Result<(), GrammarError> {
        let tokens = std::mem::take(&mut self.take_back);
        self.tokens -= tokens;
        match tokens {
            0 => Ok(()),
            tokens => self.state.pop(tokens),
        }
    }

    /// The mask of what may follow now.
    fn mask(&mut self) -> Result<Vec<u32>, GrammarError> {
        let mut mask = vec![0; self.words];
        self.state.allow(&mut mask)?;
        Ok(mask)
    }

    /// Drops the drafts that the grammar forbids or cannot go on from, and gives the others' masks. The root is
    /// the last token before what follows.
    ///
    /// A drafter may have drawn what is dropped by chance: the rest is then as if drawn from what the grammar allows,
    /// as verification assumes, since it applies the masks to the draft's distribution too.
    pub fn restrict(&mut self, tree: &DraftTree) -> Result<Restricted, ConstraintError> {
        self.settle()?;
        let parents = tree.parents();
        let mut masks: Vec<Option<Vec<u32>>> = vec![None; tree.len()];
        masks[0] = Some(self.mask()?).filter(|mask| mask.iter().any(|word| *word != 0));
        if masks[0].is_none() {
            let tokens = self.tokens;
            return Err(GrammarError::DeadEnd { tokens }.into());
        }
        let mut path = vec![0]; // nodes from the root to the one that the state stands at
        let mut open: Vec<usize> = tree.children(0).collect();
        while let Some(node) = open.pop() {
            let parent = parents[node] as usize;
            let depth = path.iter().position(|at| *at == parent).unwrap_or(0) + 1;
            self.state.pop(path.len() - depth)?;
            path.truncate(depth);
            let token = tree.tokens()[node];
            let allowed = masks[parent].as_ref();
            let word = allowed.and_then(|mask| mask.get(token as usize / 32));
            if word.is_none_or(|word| word >> (token % 32) & 1 == 0) {
                continue;
            }
            self.state.push(token)?;
            path.push(node);
            let mask = self.mask()?;
            if mask.iter().any(|word| *word != 0) {
                masks[node] = Some(mask);
                open.extend(tree.children(node));
            }
        }
        self.state.pop(path.len() - 1)?;
        Ok(Restricted {
            tree: tree.retain(|node| masks[node].is_some())?,
            masks: masks.into_iter().flatten().flatten().collect(),
        })
    }
}

/// Why a tree can't be restricted.
#[derive(Debug, thiserror::Error)]
pub(in crate::generate) enum ConstraintError {
    #[error(transparent)]
    Grammar(#[from] GrammarError),
    #[error(transparent)]
    Tree(#[from] TreeError),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens below 64, each at most one more than the one before it.
    #[derive(Debug)]
    struct Climbing;

    struct Climbed(Vec<u32>);

    impl Grammar for Climbing {
        fn begin(&self) -> Result<Box<dyn GrammarState>, GrammarError> {
            Ok(Box::new(Climbed(vec![3])))
        }
    }

    impl GrammarState for Climbed {
        fn allow(&mut self, allowed: &mut [u32]) -> Result<(), GrammarError> {
            let last = self.0[self.0.len() - 1];
            // From 9 on it goes nowhere.
            if last < 9 {
                (0..=last + 1).for_each(|token| allowed[token as usize / 32] |= 1 << (token % 32));
            }
            Ok(())
        }

        fn push(&mut self, token: u32) -> Result<(), GrammarError> {
            self.0.push(token);
            Ok(())
        }

        fn pop(&mut self, tokens: usize) -> Result<(), GrammarError> {
            assert!(tokens < self.0.len());
            self.0.truncate(self.0.len() - tokens);
            Ok(())
        }
    }

    fn begin() -> Constraint {
        let grammar: Arc<dyn Grammar> = Arc::new(Climbing);
        Constraint::begin(&grammar, 40).unwrap()
    }

    #[test]
    fn forbidden_drafts_go_with_all_that_follows_them() {
        let mut constraint = begin();
        let paths: &[&[u32]] = &[&[4, 5, 7, 1], &[4, 2, 3], &[6, 1], &[1, 2], &[0, 39]];
        let tree = DraftTree::merge(11, paths, 32).unwrap();
        for _ in 0..2 {
            let restricted = constraint.restrict(&tree).unwrap();
            let kept: &[&[u32]] = &[&[4, 5], &[4, 2, 3], &[1, 2], &[0]];
            let kept = DraftTree::merge(11, kept, 32).unwrap();
            let mut shapes: Vec<_> = [&restricted.tree, &kept].map(paths_of).to_vec();
            shapes.iter_mut().for_each(|paths| paths.sort());
            assert_eq!(shapes[0], shapes[1]);
            for (node, mask) in restricted.masks.chunks(2).enumerate() {
                let token = match node {
                    0 => 3,
                    _ => restricted.tree.tokens()[node],
                };
                assert_eq!(mask, [(1 << (token + 2)) - 1, 0], "{node}");
            }
        }
    }

    fn paths_of(tree: &DraftTree) -> Vec<Vec<u32>> {
        let tokens = |node| {
            let path = tree.path_to(node).unwrap();
            path.iter().map(|&i| tree.tokens()[i as usize]).collect()
        };
        (0..tree.len()).map(tokens).collect()
    }

    #[test]
    fn tokens_taken_back_are_taken_back_in_the_grammar() {
        let mut constraint = begin();
        constraint.advance(&[4, 5, 6]).unwrap();
        constraint.take_back(1);
        constraint.take_back(1);
        let root = DraftTree::root_only(4);
        let masks = constraint.restrict(&root).unwrap().masks;
        assert_eq!(masks, [0b11_1111, 0]);
        // More than there are: all.
        constraint.take_back(7);
        constraint.advance(&[]).unwrap();
        assert_eq!(constraint.restrict(&root).unwrap().masks, [0b1_1111, 0]);
    }

    #[test]
    fn a_dead_end_is_an_error_at_the_root_and_no_draft_below() {
        let mut constraint = begin();
        constraint.advance(&[4, 5, 6, 7, 8]).unwrap();
        let chain = DraftTree::chain(8, &[9, 1]).unwrap();
        let restricted = constraint.restrict(&chain).unwrap();
        assert_eq!(restricted.tree, DraftTree::root_only(8));
        constraint.advance(&[9]).unwrap();
        let error = constraint.restrict(&chain).unwrap_err();
        let expected = GrammarError::DeadEnd { tokens: 6 };
        assert!(matches!(error, ConstraintError::Grammar(error) if error == expected));
    }
}
