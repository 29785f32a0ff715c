//! One tile through the kernels, with numbers, and why they do what they do in that order.
//!
//! [`NO_KEY`]: super::NO_KEY
//! [`MergeStates`]: super::MergeStates
//! [`invariant`]: super::AttentionProblem::invariant
//! [`DraftTree`]: super::DraftTree
//! [`workspace_bytes`]: super::AttentionPlan::workspace_bytes
//! [`explain`]: super::AttentionPlan::explain
// Of several definitions of a link Markdown takes the first. In the repository the page's own ones
// lead to its files; in this documentation, which has no files beside it, those above and the
// drawings as data do.
#![doc = include_str!("../../docs/drawings.md")]
#![doc = include_str!("../../docs/attention.md")]

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    /// A definition of the link `name` with the drawing itself as its target.
    fn definition(name: &str, drawing: &str) -> String {
        let mut text = format!("[{name}]: data:image/svg+xml,");
        let lines: Vec<_> = drawing.lines().map(str::trim).collect();
        for byte in lines.join("\n").bytes() {
            let plain = byte.is_ascii_alphanumeric() || b"-._~/:;=,@!*+".contains(&byte);
            // Writing to a String cannot fail.
            let _ = match plain {
                true => write!(text, "{}", char::from(byte)),
                false => write!(text, "%{byte:02X}"),
            };
        }
        text
    }

    /// `SUNFLECK_WRITE_DRAWINGS=1 cargo test drawings` writes them anew.
    #[test]
    fn the_documentation_shows_the_drawings_of_the_repository() {
        let now = [
            ("rows", include_str!("../../docs/attention-rows.svg")),
            ("tile", include_str!("../../docs/attention-tile.svg")),
            ("merge", include_str!("../../docs/attention-merge.svg")),
            ("tree", include_str!("../../docs/attention-tree.svg")),
            ("verified", include_str!("../../docs/verification-tree.svg")),
        ]
        .map(|(name, drawing)| definition(name, drawing))
        .join("\n")
            + "\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/drawings.md");
        if std::env::var_os("SUNFLECK_WRITE_DRAWINGS").is_some() {
            std::fs::write(path, &now).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            now == written,
            "a drawing changed; write docs/drawings.md anew with SUNFLECK_WRITE_DRAWINGS=1"
        );
    }
}
