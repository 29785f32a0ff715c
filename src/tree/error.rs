//! Why a draft tree was refused.

use super::{DrawKind, MAX_NODES};

/// Why a draft tree was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// There is no root.
    #[error("a draft tree needs at least its root, the last committed token, but has no node")]
    Empty,
    /// There are more nodes than there is room for.
    #[error(
        "the tree has {given} nodes where at most {max} fit; draft fewer tokens or plan for more"
    )]
    TooManyNodes {
        /// Nodes given.
        given: usize,
        /// Nodes allowed: the plan's maximum, or [`MAX_NODES`].
        max: usize,
    },
    /// Tokens and parents differ in number.
    #[error(
        "every node needs one token and one parent, but {tokens} tokens and {parents} parents were given"
    )]
    Lengths {
        /// Tokens given.
        tokens: usize,
        /// Parents given.
        parents: usize,
    },
    /// Node 0 names a parent.
    #[error("node 0 is the root and needs parent 0xFFFFFFFF (none) but names {parent}")]
    RootHasParent {
        /// The parent it names.
        parent: u32,
    },
    /// A node other than 0 has no parent.
    #[error(
        "node {node} has no parent; only node 0 may be a root, so give it a parent below {node}"
    )]
    SecondRoot {
        /// The node.
        node: usize,
    },
    /// A node's parent is outside the tree.
    #[error("node {node} names parent {parent}, but the tree has {nodes} nodes")]
    UnknownParent {
        /// The node.
        node: usize,
        /// The parent it names.
        parent: u32,
        /// Nodes of the tree.
        nodes: usize,
    },
    /// A node comes before its parent.
    #[error("node {node} names parent {parent}, which must come before it; order parents first")]
    ForwardParent {
        /// The node.
        node: usize,
        /// The parent it names.
        parent: u32,
    },
    /// A node is its own ancestor.
    #[error("node {node} is its own ancestor (through parent {parent}); a tree has no cycle")]
    Cycle {
        /// The node.
        node: usize,
        /// The parent it names.
        parent: u32,
    },
    /// Two siblings have the same token, though their draw gives distinct ones.
    #[error(
        "nodes {first} and {second} are siblings with the same token {token}, but {draw:?} children \
         are distinct; drop one, or record the draw as Iid if that is how it was drawn"
    )]
    DuplicateSiblings {
        /// The earlier node.
        first: usize,
        /// The later node.
        second: usize,
        /// Their token.
        token: u32,
        /// The tree's draw.
        draw: DrawKind,
    },
    /// A path occurs twice, or is empty.
    #[error(
        "path {path} is empty or repeats an earlier one; every path needs to name one new node"
    )]
    RepeatedPath {
        /// Index in the list of paths.
        path: usize,
    },
    /// A path goes through a node that no path names.
    #[error("path {path} needs the path without its last step, which is not in the list; add it")]
    MissingPrefix {
        /// Index in the list of paths.
        path: usize,
    },
    /// A path asks for a candidate that does not exist.
    #[error("path {path} needs candidate {rank} at depth {depth}, but {given} were given there")]
    MissingCandidate {
        /// Index in the list of paths.
        path: usize,
        /// Depth, counted from 1 for the root's children.
        depth: usize,
        /// The rank that the path names.
        rank: usize,
        /// Candidates at that depth.
        given: usize,
    },
    /// The draft-probability rows do not fit the tree.
    #[error(
        "node {node} names draft-probability row {row}; siblings share one row, and the root needs \
         0xFFFFFFFF (none)"
    )]
    ProbabilityRow {
        /// The node.
        node: usize,
        /// The row it names.
        row: u32,
    },
    /// A blob does not have the length of its layout.
    #[error("a blob with room for {stride} nodes needs {needed} words but has {given}")]
    BlobLength {
        /// The layout's stride in nodes.
        stride: usize,
        /// Words that the layout needs.
        needed: usize,
        /// Words given.
        given: usize,
    },
    /// A field of a blob disagrees with what tokens and parents imply.
    #[error("the blob's {field} of node {node} disagrees with its parents; rebuild the blob")]
    BlobField {
        /// Name of the field.
        field: &'static str,
        /// The node.
        node: usize,
    },
}

impl TreeError {
    /// Refuses more nodes than `max` or than [`MAX_NODES`].
    pub(super) fn check_nodes(given: usize, max: usize) -> Result<(), TreeError> {
        let max = max.min(MAX_NODES);
        if given > max {
            return Err(TreeError::TooManyNodes { given, max });
        }
        Ok(())
    }
}
