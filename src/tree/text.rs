//! A tree drawn as text, for logs and tests.

use super::DraftTree;

impl DraftTree {
    /// The tree as indented lines, one a node, in preorder. `name` gives a token's text; line breaks in
    /// it are shown as `\n` so that the drawing keeps its shape.
    pub fn to_text(&self, name: impl Fn(u32) -> String) -> String {
        let mut text = String::new();
        // Nodes still to draw, the next one last, each with the lines that stand before it.
        let mut stack = vec![(0usize, String::new())];
        while let Some((node, lead)) = stack.pop() {
            let is_last = self.next_siblings()[node] == super::NONE;
            let (branch, below) = match (node, is_last) {
                (0, _) => ("", ""),
                (_, true) => ("└─ ", "   "),
                (_, false) => ("├─ ", "│  "),
            };
            text.push_str(&lead);
            text.push_str(branch);
            text.push_str(&name(self.tokens()[node]).replace('\n', "\\n"));
            text.push('\n');
            let children: Vec<usize> = self.children(node).collect();
            let lead = lead + below;
            stack.extend(
                children
                    .into_iter()
                    .rev()
                    .map(|child| (child, lead.clone())),
            );
        }
        text
    }
}
