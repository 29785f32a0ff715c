//! One draft tree through draft, mask, verification and commit, with numbers.
//!
//! [`DraftTree`]: crate::tree::DraftTree
//! [`DrawKind`]: crate::tree::DrawKind
//! [`Rule`]: super::Rule
//! [`Rule::check`]: super::Rule::check
//! [`Verify`]: super::Verify
//! [`Commit`]: crate::cache::Commit
//! [`enumerate`]: crate::reference::verify::enumerate
// As in `attention::walkthrough`: the first definition of a link wins.
#![doc = include_str!("../../docs/drawings.md")]
#![doc = include_str!("../../docs/verification.md")]

#[cfg(test)]
mod tests {
    use crate::tree::DraftTree;

    /// `SUNFLECK_WRITE_DRAWINGS=1 cargo test drawing` writes it anew.
    #[test]
    fn the_drawing_is_of_the_tree_that_the_page_walks_through() {
        let tree = DraftTree::merge(0, &[[1, 2], [1, 3]], 4).unwrap();
        let now = tree
            .drawing(|token| token.to_string())
            .probabilities(&[1.0, 0.5, 0.25, 0.375])
            .accepted(&[0, 1, 3])
            .to_svg();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verification-tree.svg");
        if std::env::var_os("SUNFLECK_WRITE_DRAWINGS").is_some() {
            std::fs::write(path, &now).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            now == written,
            "the drawing changed; write it anew with SUNFLECK_WRITE_DRAWINGS=1, then docs/drawings.md"
        );
    }
}
