//! A tree that grows by cumulative log-probability (Li et al. 2024, EAGLE-2, section 4).

use super::top_k;
use crate::tree::{DraftTree, DrawKind, NONE, TreeError};

/// A drafted token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry {
    /// The token.
    pub token: u32,
    /// Entry of the parent; of the root [`NONE`].
    pub parent: u32,
    /// Sum of the log-probabilities on the way from the root.
    pub score: f64,
}

/// The growth of one tree: every drafted token in the order in which it was drafted.
///
/// ```
/// use sunfleck::reference::tree::DynamicGrowth;
///
/// let mut growth = DynamicGrowth::new(7);
/// let root = growth.expand(&[0], &[&[0.0, 2.0, 1.0]], 2, 2);
/// assert_eq!(root, [1, 2]); // entries that are drafted from next: tokens 1 and 2
/// assert_eq!(growth.finish(2)?.tokens(), [7, 1]);
/// # Ok::<(), sunfleck::tree::TreeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct DynamicGrowth {
    entries: Vec<Entry>,
}

impl DynamicGrowth {
    /// The root alone.
    pub fn new(root: u32) -> Self {
        let entry = Entry {
            token: root,
            parent: NONE,
            score: 0.0,
        };
        Self {
            entries: vec![entry],
        }
    }

    /// All entries so far.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Drafts `children` candidates of each entry of `level` from its row of `logits`, and returns the best
    /// `width` of these candidates in the order in which they were drafted.
    pub fn expand(
        &mut self,
        level: &[usize],
        logits: &[&[f32]],
        children: usize,
        width: usize,
    ) -> Vec<usize> {
        let begin = self.entries.len();
        for (&parent, row) in level.iter().zip(logits) {
            for candidate in top_k(row, children) {
                self.entries.push(Entry {
                    token: candidate.token,
                    parent: parent as u32,
                    score: self.entries[parent].score + candidate.log_probability,
                });
            }
        }
        self.best(begin, width)
    }

    /// The best entries from `begin` on, ties to the lower index, in the order of the entries.
    fn best(&self, begin: usize, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (begin..self.entries.len()).collect();
        // Stable: of equal scores the earlier entry comes first.
        order.sort_by(|&a, &b| self.entries[b].score.total_cmp(&self.entries[a].score));
        order.truncate(count);
        order.sort_unstable();
        order
    }

    /// The tree of the best `max_nodes` entries, the root among them.
    ///
    /// # Errors
    /// [`TreeError`] when `max_nodes` is 0.
    pub fn finish(&self, max_nodes: usize) -> Result<DraftTree, TreeError> {
        let kept = self.best(0, max_nodes);
        let tokens = kept
            .iter()
            .map(|&entry| self.entries[entry].token)
            .collect();
        // An entry's score is at most its parent's, which comes before it: the parent is kept too.
        let parents = kept.iter().map(|&entry| {
            let parent = self.entries[entry].parent;
            match kept.binary_search(&(parent as usize)) {
                Ok(node) => node as u32,
                Err(_) => NONE,
            }
        });
        DraftTree::from_parents(tokens, parents.collect(), DrawKind::TopK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sure_continuations_beat_unsure_siblings() {
        let ln = |p: f32| p.ln();
        let mut growth = DynamicGrowth::new(9);
        // 0.7, 0.2, 0.1 after the root.
        let level = growth.expand(&[0], &[&[ln(0.7), ln(0.2), ln(0.1)]], 2, 2);
        assert_eq!(level, [1, 2]);
        // 0.9 after token 0: 0.63 beats 0.2; 0.5 after token 1: 0.1.
        let next = growth.expand(
            &level,
            &[&[ln(0.05), ln(0.9), ln(0.05)], &[ln(0.5), ln(0.3), ln(0.2)]],
            2,
            2,
        );
        // 0.63 and 0.1, of 0.63, 0.035, 0.1, 0.06.
        assert_eq!(next, [3, 5]);
        let tree = growth.finish(4).unwrap();
        assert_eq!(tree.tokens(), [9, 0, 1, 1]);
        assert_eq!(tree.parents(), [NONE, 0, 0, 1]);
    }

    #[test]
    fn ties_go_to_the_lower_index_and_nothing_is_kept_without_its_parent() {
        let mut growth = DynamicGrowth::new(0);
        // A sure chain: every score is 0, as the root's.
        let sure = [f32::NEG_INFINITY, 0.0];
        let mut level = vec![0];
        for _ in 0..3 {
            level = growth.expand(&level, &[&sure], 1, 1);
        }
        let tree = growth.finish(3).unwrap();
        assert_eq!(tree.parents(), [NONE, 0, 1]);
        assert!(growth.finish(0).is_err());
    }
}
