//! The builders: a chain, parents, Medusa's paths, several sequences merged.

use std::collections::HashMap;

use super::draft_tree::{DraftTree, DrawKind, MAX_NODES, NONE};
use super::error::TreeError;

impl DraftTree {
    /// The tree that drafts nothing: only the last committed token.
    pub fn root_only(root: u32) -> Self {
        Self::link(vec![root], vec![NONE], DrawKind::TopK)
    }

    /// One continuation `tokens` after `root`, chosen without chance ([`DrawKind::TopK`]; see
    /// [`with_draw`](Self::with_draw)).
    ///
    /// # Errors
    /// [`TreeError::TooManyNodes`].
    pub fn chain(root: u32, tokens: &[u32]) -> Result<Self, TreeError> {
        TreeError::check_nodes(tokens.len().saturating_add(1), MAX_NODES)?;
        let token = std::iter::once(root)
            .chain(tokens.iter().copied())
            .collect();
        let parent = std::iter::once(NONE)
            .chain(0..tokens.len() as u32)
            .collect();
        Ok(Self::link(token, parent, DrawKind::TopK))
    }

    /// A tree from the token and the parent of each node. Node 0 is the root, with parent [`NONE`];
    /// every other parent comes before its children; siblings are in draw order.
    ///
    /// # Errors
    /// [`TreeError`] for a list that is no such tree, and for equal siblings where the draw gives
    /// distinct ones.
    pub fn from_parents(
        tokens: Vec<u32>,
        parents: Vec<u32>,
        draw: DrawKind,
    ) -> Result<Self, TreeError> {
        if tokens.len() != parents.len() {
            return Err(TreeError::Lengths {
                tokens: tokens.len(),
                parents: parents.len(),
            });
        }
        check_parents(&parents)?;
        let tree = Self::link(tokens, parents, draw);
        tree.check_siblings()?;
        Ok(tree)
    }

    /// Medusa's static tree (Cai et al. 2024, section 2.1.2): a path lists, from the root's child down,
    /// which candidate each depth takes, and names one node. `candidates[depth - 1][rank]` is the token
    /// with that rank at that depth, whatever its parent.
    ///
    /// Nodes come in order of length, then of ranks, so that siblings ascend in rank.
    ///
    /// # Errors
    /// [`TreeError::RepeatedPath`], [`TreeError::MissingPrefix`], [`TreeError::MissingCandidate`], and
    /// [`TreeError::DuplicateSiblings`] when candidates of one depth repeat.
    pub fn from_paths(
        root: u32,
        paths: &[impl AsRef<[usize]>],
        candidates: &[impl AsRef<[u32]>],
    ) -> Result<Self, TreeError> {
        TreeError::check_nodes(paths.len().saturating_add(1), MAX_NODES)?;
        let mut order: Vec<usize> = (0..paths.len()).collect();
        order.sort_by_key(|&path| (paths[path].as_ref().len(), paths[path].as_ref()));

        let mut nodes: HashMap<&[usize], u32> = HashMap::from([(&[][..], 0)]);
        let (mut tokens, mut parents) = (vec![root], vec![NONE]);
        for path in order {
            let steps = paths[path].as_ref();
            let Some((&rank, prefix)) = steps.split_last() else {
                return Err(TreeError::RepeatedPath { path });
            };
            let Some(&parent) = nodes.get(prefix) else {
                return Err(TreeError::MissingPrefix { path });
            };
            if nodes.insert(steps, tokens.len() as u32).is_some() {
                return Err(TreeError::RepeatedPath { path });
            }
            let of_depth = candidates.get(prefix.len()).map_or(&[][..], AsRef::as_ref);
            let Some(&token) = of_depth.get(rank) else {
                return Err(TreeError::MissingCandidate {
                    path,
                    depth: steps.len(),
                    rank,
                    given: of_depth.len(),
                });
            };
            tokens.push(token);
            parents.push(parent);
        }
        Self::from_parents(tokens, parents, DrawKind::TopK)
    }

    /// Several continuations of `root` with their common beginnings shared. The tree stops growing at
    /// `max_nodes` nodes, the root included, so earlier sequences win.
    ///
    /// # Errors
    /// [`TreeError::Empty`] when `max_nodes` is 0, which leaves no room for the root.
    pub fn merge(
        root: u32,
        sequences: &[impl AsRef<[u32]>],
        max_nodes: usize,
    ) -> Result<Self, TreeError> {
        if max_nodes == 0 {
            return Err(TreeError::Empty);
        }
        let max_nodes = max_nodes.min(MAX_NODES);
        let mut nodes: HashMap<(u32, u32), u32> = HashMap::new();
        let (mut tokens, mut parents) = (vec![root], vec![NONE]);
        for sequence in sequences {
            let mut at = 0;
            for &token in sequence.as_ref() {
                at = match nodes.get(&(at, token)) {
                    Some(&node) => node,
                    None if tokens.len() == max_nodes => break,
                    None => {
                        let node = tokens.len() as u32;
                        nodes.insert((at, token), node);
                        tokens.push(token);
                        parents.push(at);
                        node
                    }
                };
            }
        }
        Self::from_parents(tokens, parents, DrawKind::TopK)
    }

    /// Derives every other field; the parents are already checked, or right by construction.
    fn link(token: Vec<u32>, parent: Vec<u32>, draw: DrawKind) -> Self {
        let nodes = token.len();
        let mut first_child = vec![NONE; nodes];
        let mut next_sibling = vec![NONE; nodes];
        let mut depth = vec![0; nodes];
        // Children come after their parents: one pass backwards meets every child before its parent
        // and the later sibling before the earlier.
        let mut subtree = vec![1; nodes];
        for node in (1..nodes).rev() {
            let parent = parent[node] as usize;
            next_sibling[node] = first_child[parent];
            first_child[parent] = node as u32;
            subtree[parent] += subtree[node];
        }

        let words = nodes.div_ceil(32);
        let mut ancestors = vec![0; nodes * words];
        let mut dfs_in = vec![0; nodes];
        let mut q_row = vec![NONE; nodes];
        let mut rows = 0;
        for node in 0..nodes {
            ancestors[node * words + node / 32] |= 1 << (node % 32);
            let mut next = dfs_in[node] + 1;
            let mut child = first_child[node];
            if child != NONE {
                rows += 1;
            }
            while child != NONE {
                let index = child as usize;
                depth[index] = depth[node] + 1;
                dfs_in[index] = next;
                next += subtree[index];
                q_row[index] = rows - 1;
                ancestors.copy_within(node * words..(node + 1) * words, index * words);
                child = next_sibling[index];
            }
        }
        let dfs_out = dfs_in
            .iter()
            .zip(&subtree)
            .map(|(first, count)| first + count)
            .collect();
        DraftTree {
            token,
            parent,
            first_child,
            next_sibling,
            depth,
            dfs_in,
            dfs_out,
            q_row,
            ancestors,
            draw,
        }
    }
}

/// Refuses parents that are no tree in parents-first order.
fn check_parents(parents: &[u32]) -> Result<(), TreeError> {
    let nodes = parents.len();
    let Some(&root) = parents.first() else {
        return Err(TreeError::Empty);
    };
    TreeError::check_nodes(nodes, MAX_NODES)?;
    if root != NONE {
        return Err(TreeError::RootHasParent { parent: root });
    }
    for (node, &parent) in parents.iter().enumerate().skip(1) {
        if parent == NONE {
            return Err(TreeError::SecondRoot { node });
        }
        if parent as usize >= nodes {
            return Err(TreeError::UnknownParent {
                node,
                parent,
                nodes,
            });
        }
        if parent as usize >= node {
            return Err(if is_own_ancestor(parents, node) {
                TreeError::Cycle { node, parent }
            } else {
                TreeError::ForwardParent { node, parent }
            });
        }
    }
    Ok(())
}

fn is_own_ancestor(parents: &[u32], node: usize) -> bool {
    let mut at = node;
    // A walk longer than the number of nodes goes round a cycle that does not hold `node`.
    for _ in 0..parents.len() {
        match parents.get(at) {
            Some(&parent) => at = parent as usize,
            None => return false,
        }
        if at == node {
            return true;
        }
    }
    false
}
