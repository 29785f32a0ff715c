//! The tree itself: its fields and the questions it answers.

use super::TreeError;

/// No parent, child, sibling or row.
pub const NONE: u32 = 0xFFFF_FFFF;

/// The most nodes a tree may have: far more than pays off, and few enough that the ancestor words
/// (quadratic in the nodes) stay at 2 MiB.
pub const MAX_NODES: usize = 4096;

/// How the children of each node were drawn from the draft distribution. A verification rule is
/// lossless only for the draw that it was made for, so the tree carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u32)]
#[non_exhaustive]
pub enum DrawKind {
    /// Chosen without chance, distinct: the k likeliest, an n-gram match, a grammar's only token.
    #[default]
    TopK = 0,
    /// Sampled independently; siblings may repeat a token.
    Iid = 1,
    /// Sampled one after the other without replacement; distinct.
    WithoutReplacement = 2,
}

impl DrawKind {
    /// Whether siblings must differ.
    pub fn is_distinct(self) -> bool {
        !matches!(self, DrawKind::Iid)
    }
}

/// A draft tree as a structure of arrays, one entry a node.
///
/// It can only be made by the builders, and so always holds: node 0 is the root, `parent[i] < i`,
/// siblings ascend in draw order, and every derived field agrees with the parents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DraftTree {
    pub(super) token: Vec<u32>,
    pub(super) parent: Vec<u32>,
    pub(super) first_child: Vec<u32>,
    pub(super) next_sibling: Vec<u32>,
    pub(super) depth: Vec<u32>,
    pub(super) dfs_in: Vec<u32>,
    pub(super) dfs_out: Vec<u32>,
    pub(super) q_row: Vec<u32>,
    /// `[node][ceil(nodes / 32)]`
    pub(super) ancestors: Vec<u32>,
    pub(super) draw: DrawKind,
}

// A tree has a root, so there is no tree for which `is_empty` would hold.
#[allow(clippy::len_without_is_empty)]
impl DraftTree {
    /// Number of nodes, the root included; at least 1.
    pub fn len(&self) -> usize {
        self.token.len()
    }

    /// Number of drafted tokens: all nodes but the root.
    pub fn drafted(&self) -> usize {
        self.len() - 1
    }

    /// Token of each node; `[0]` is the last committed token.
    pub fn tokens(&self) -> &[u32] {
        &self.token
    }

    /// Parent of each node; [`NONE`] for the root.
    pub fn parents(&self) -> &[u32] {
        &self.parent
    }

    /// First child in draw order; [`NONE`] for a leaf.
    pub fn first_children(&self) -> &[u32] {
        &self.first_child
    }

    /// Next child of the same parent in draw order; [`NONE`] for the last.
    pub fn next_siblings(&self) -> &[u32] {
        &self.next_sibling
    }

    /// Edges from the root; the root has 0. A node's position in the sequence is the root's plus this.
    pub fn depths(&self) -> &[u32] {
        &self.depth
    }

    /// Preorder number of each node.
    pub fn dfs_in(&self) -> &[u32] {
        &self.dfs_in
    }

    /// One past the preorder number of each node's last descendant. `a` is an ancestor of `n`, or `n`
    /// itself, iff `dfs_in[a] <= dfs_in[n] < dfs_out[a]`. `dfs_out[0]` is the number of nodes.
    pub fn dfs_out(&self) -> &[u32] {
        &self.dfs_out
    }

    /// The draft-probability row from which each node was drawn: that of its parent, so siblings share
    /// it; [`NONE`] for the root. Rows are numbered by the builders in the order of the parents.
    pub fn q_rows(&self) -> &[u32] {
        &self.q_row
    }

    /// Ancestor bits `[node][ancestor_row_words]`: bit `a % 32` of word `a / 32` is set iff `a` is an
    /// ancestor of the node or the node itself.
    pub fn ancestors(&self) -> &[u32] {
        &self.ancestors
    }

    /// Words of one node's ancestor bits: `ceil(nodes / 32)`.
    pub fn ancestor_row_words(&self) -> usize {
        self.len().div_ceil(32)
    }

    /// How children were drawn.
    pub fn draw(&self) -> DrawKind {
        self.draw
    }

    /// The same tree with another record of how its children were drawn.
    ///
    /// # Errors
    /// [`TreeError::DuplicateSiblings`] when the draw gives distinct children and some repeat.
    pub fn with_draw(mut self, draw: DrawKind) -> Result<Self, TreeError> {
        self.draw = draw;
        self.check_siblings()?;
        Ok(self)
    }

    /// The same tree with other draft-probability rows, one a node (see [`q_rows`](Self::q_rows)).
    ///
    /// # Errors
    /// [`TreeError::Lengths`] for another number of rows than nodes; [`TreeError::ProbabilityRow`] when
    /// the root has a row, another node has none, or siblings differ.
    pub fn with_q_rows(mut self, rows: Vec<u32>) -> Result<Self, TreeError> {
        if rows.len() != self.len() {
            return Err(TreeError::Lengths {
                tokens: self.len(),
                parents: rows.len(),
            });
        }
        for (node, &row) in rows.iter().enumerate() {
            let fits = match self.parent[node] {
                NONE => row == NONE,
                parent => row != NONE && row == rows[self.first_child[parent as usize] as usize],
            };
            if !fits {
                return Err(TreeError::ProbabilityRow { node, row });
            }
        }
        self.q_row = rows;
        Ok(self)
    }

    /// Whether every node has at most one child.
    pub fn is_chain(&self) -> bool {
        self.next_sibling.iter().all(|&sibling| sibling == NONE)
    }

    /// Depth of the deepest node: the most drafted tokens that one step can keep.
    pub fn max_depth(&self) -> u32 {
        self.depth.iter().copied().max().unwrap_or(0)
    }

    /// Children of `node` in draw order; none for a leaf or an unknown node.
    pub fn children(&self, node: usize) -> Children<'_> {
        Children {
            tree: self,
            next: self.first_child.get(node).copied().unwrap_or(NONE),
        }
    }

    /// Nodes from the root to `node`, both included; `None` for an unknown node.
    pub fn path_to(&self, node: usize) -> Option<Vec<u32>> {
        let depth = *self.depth.get(node)? as usize;
        let mut path = vec![0; depth + 1];
        let mut at = node as u32;
        for slot in path.iter_mut().rev() {
            *slot = at;
            at = self.parent[at as usize];
        }
        Some(path)
    }

    /// Whether `ancestor` is on the path from the root to `node`, `node` included: the tree part of the
    /// attention mask. `false` for unknown nodes.
    pub fn sees(&self, node: usize, ancestor: usize) -> bool {
        node < self.len()
            && ancestor < self.len()
            && self.dfs_in[ancestor] <= self.dfs_in[node]
            && self.dfs_in[node] < self.dfs_out[ancestor]
    }

    /// The same tree without the nodes that `keep` is false for, and what hangs below them; the root stays. The
    /// others keep their order, draw and draft-probability rows.
    ///
    /// # Errors
    /// None for a tree that is valid, as every tree is.
    pub fn retain(&self, keep: impl Fn(usize) -> bool) -> Result<Self, TreeError> {
        let mut place: Vec<Option<u32>> = vec![Some(0)];
        let (mut tokens, mut parents, mut rows) = (vec![self.token[0]], vec![NONE], vec![NONE]);
        for node in 1..self.len() {
            let parent = place[self.parent[node] as usize].filter(|_| keep(node));
            place.push(parent.map(|_| tokens.len() as u32));
            if let Some(parent) = parent {
                tokens.push(self.token[node]);
                parents.push(parent);
                rows.push(self.q_row[node]);
            }
        }
        Self::from_parents(tokens, parents, self.draw)?.with_q_rows(rows)
    }

    /// Refuses equal siblings where the draw gives distinct ones.
    pub(super) fn check_siblings(&self) -> Result<(), TreeError> {
        if !self.draw.is_distinct() {
            return Ok(());
        }
        let mut seen = std::collections::HashMap::new();
        for node in 1..self.len() {
            let token = self.token[node];
            if let Some(first) = seen.insert((self.parent[node], token), node) {
                return Err(TreeError::DuplicateSiblings {
                    first,
                    second: node,
                    token,
                    draw: self.draw,
                });
            }
        }
        Ok(())
    }
}

/// The children of a node in draw order.
#[derive(Debug, Clone)]
pub struct Children<'a> {
    tree: &'a DraftTree,
    next: u32,
}

impl Iterator for Children<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.next == NONE {
            return None;
        }
        let child = self.next as usize;
        self.next = self.tree.next_sibling[child];
        Some(child)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_go_with_what_hangs_below_them() {
        let paths: &[&[u32]] = &[&[1, 2, 3], &[1, 4], &[5, 6], &[7]];
        let tree = DraftTree::merge(0, paths, 16).unwrap();
        let tree = tree.with_draw(DrawKind::Iid).unwrap();
        let kept = |token| tree.retain(|node| tree.tokens()[node] != token).unwrap();
        let mut tokens = kept(1).tokens().to_vec();
        tokens.sort();
        assert_eq!(tokens, [0, 5, 6, 7]);
        assert_eq!(kept(99), tree);
        assert_eq!(kept(0), tree, "the root stays");
        let without = kept(5);
        let rows = |tree: &DraftTree| {
            let rows = tree.tokens().iter().zip(tree.q_rows());
            rows.map(|(&token, &row)| (token, row)).collect::<Vec<_>>()
        };
        let before = rows(&tree);
        assert!(rows(&without).iter().all(|row| before.contains(row)));
        assert_eq!(without.draw(), DrawKind::Iid);
    }
}
