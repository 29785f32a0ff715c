//! The tree as one block of `u32` words, as kernels read it.
//!
//! With `stride` the plan's maximum number of nodes, the blob is eight arrays of `stride` words in the
//! order of [`BlobField`], then the ancestor bits `[stride][ceil(stride / 32)]`:
//!
//! ```text
//! word(field, node)    = field * stride + node
//! word(ancestors, n, w) = 8 * stride + n * ceil(stride / 32) + w
//! ```
//!
//! Unused nodes hold [`NONE`] in every field and no ancestor bit. The number of nodes in use is the
//! root's `dfs_out`, word `6 * stride`. How children were drawn is a parameter of the verification,
//! not part of the blob.

use super::draft_tree::{DraftTree, DrawKind, MAX_NODES, NONE};
use super::error::TreeError;

/// The fields of a blob in the order of memory; the number is the field's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum BlobField {
    /// [`DraftTree::tokens`].
    Token = 0,
    /// [`DraftTree::parents`].
    Parent = 1,
    /// [`DraftTree::first_children`].
    FirstChild = 2,
    /// [`DraftTree::next_siblings`].
    NextSibling = 3,
    /// [`DraftTree::depths`].
    Depth = 4,
    /// [`DraftTree::dfs_in`].
    DfsIn = 5,
    /// [`DraftTree::dfs_out`].
    DfsOut = 6,
    /// [`DraftTree::q_rows`].
    QRow = 7,
}

impl BlobField {
    /// Every field in the order of memory.
    pub const ALL: [BlobField; 8] = [
        BlobField::Token,
        BlobField::Parent,
        BlobField::FirstChild,
        BlobField::NextSibling,
        BlobField::Depth,
        BlobField::DfsIn,
        BlobField::DfsOut,
        BlobField::QRow,
    ];

    /// The field's name, as in the design and in shaders.
    pub const fn name(self) -> &'static str {
        match self {
            BlobField::Token => "token",
            BlobField::Parent => "parent",
            BlobField::FirstChild => "first_child",
            BlobField::NextSibling => "next_sibling",
            BlobField::Depth => "depth",
            BlobField::DfsIn => "dfs_in",
            BlobField::DfsOut => "dfs_out",
            BlobField::QRow => "q_row",
        }
    }
}

/// Word at which `field` of node 0 lies.
pub const fn field_offset(field: BlobField, stride: usize) -> usize {
    (field as usize).saturating_mul(stride)
}

/// Word at which the ancestor bits of node 0 lie.
pub const fn ancestors_offset(stride: usize) -> usize {
    BlobField::ALL.len().saturating_mul(stride)
}

/// Words of one node's ancestor bits.
pub const fn ancestor_words(stride: usize) -> usize {
    stride.div_ceil(32)
}

/// Words of the whole blob.
pub const fn blob_words(stride: usize) -> usize {
    ancestors_offset(stride).saturating_add(stride.saturating_mul(ancestor_words(stride)))
}

impl DraftTree {
    /// Writes the tree into `blob`, whose length is [`blob_words`]`(stride)`.
    ///
    /// # Errors
    /// [`TreeError::TooManyNodes`] when the tree has more than `stride` nodes,
    /// [`TreeError::BlobLength`] when `blob` has another length.
    pub fn write_blob(&self, stride: usize, blob: &mut [u32]) -> Result<(), TreeError> {
        TreeError::check_nodes(self.len(), stride)?;
        check_blob(stride, blob)?;
        let (fields, ancestors) = blob.split_at_mut(ancestors_offset(stride));
        fields.fill(NONE);
        for field in BlobField::ALL {
            let start = field_offset(field, stride);
            fields[start..start + self.len()].copy_from_slice(self.field(field));
        }
        ancestors.fill(0);
        let rows = self.ancestors.chunks_exact(self.ancestor_row_words());
        for (wide, row) in ancestors.chunks_exact_mut(ancestor_words(stride)).zip(rows) {
            wide[..row.len()].copy_from_slice(row);
        }
        Ok(())
    }

    /// The tree as a new blob with room for `stride` nodes.
    ///
    /// # Errors
    /// [`TreeError::TooManyNodes`] when the tree has more than `stride` nodes, or `stride` is above
    /// [`MAX_NODES`].
    pub fn blob(&self, stride: usize) -> Result<Vec<u32>, TreeError> {
        TreeError::check_nodes(stride, MAX_NODES)?;
        TreeError::check_nodes(self.len(), stride)?;
        let mut blob = vec![0; blob_words(stride)];
        self.write_blob(stride, &mut blob)?;
        Ok(blob)
    }

    /// The tree that `blob` holds, for instance one that a kernel built; every field is checked against
    /// what tokens and parents imply.
    ///
    /// # Errors
    /// [`TreeError`] for a blob of another length or with inconsistent contents.
    pub fn from_blob(blob: &[u32], stride: usize, draw: DrawKind) -> Result<Self, TreeError> {
        TreeError::check_nodes(stride, MAX_NODES)?;
        check_blob(stride, blob)?;
        let field = |field| &blob[field_offset(field, stride)..][..stride];
        let nodes = field(BlobField::DfsOut)
            .first()
            .map_or(0, |&out| out as usize);
        TreeError::check_nodes(nodes, stride)?;
        let tree = Self::from_parents(
            field(BlobField::Token)[..nodes].to_vec(),
            field(BlobField::Parent)[..nodes].to_vec(),
            draw,
        )?
        .with_q_rows(field(BlobField::QRow)[..nodes].to_vec())?;
        for which in BlobField::ALL {
            if let Some(node) = first_difference(&field(which)[..nodes], tree.field(which)) {
                return Err(TreeError::BlobField {
                    field: which.name(),
                    node,
                });
            }
        }
        let rebuilt = tree.blob(stride)?;
        let ancestors = ancestors_offset(stride);
        if let Some(word) = first_difference(&blob[ancestors..], &rebuilt[ancestors..]) {
            return Err(TreeError::BlobField {
                field: "ancestors",
                node: word / ancestor_words(stride),
            });
        }
        Ok(tree)
    }

    /// One field, one word a node.
    fn field(&self, field: BlobField) -> &[u32] {
        match field {
            BlobField::Token => &self.token,
            BlobField::Parent => &self.parent,
            BlobField::FirstChild => &self.first_child,
            BlobField::NextSibling => &self.next_sibling,
            BlobField::Depth => &self.depth,
            BlobField::DfsIn => &self.dfs_in,
            BlobField::DfsOut => &self.dfs_out,
            BlobField::QRow => &self.q_row,
        }
    }
}

fn check_blob(stride: usize, blob: &[u32]) -> Result<(), TreeError> {
    let needed = blob_words(stride);
    if blob.len() == needed {
        return Ok(());
    }
    Err(TreeError::BlobLength {
        stride,
        needed,
        given: blob.len(),
    })
}

fn first_difference(a: &[u32], b: &[u32]) -> Option<usize> {
    a.iter().zip(b).position(|(a, b)| a != b)
}
