//! A tree drawn for people: what is shown, and the drawing as text.

use super::{DraftTree, NONE};

/// A drawing of a draft tree: tokens, and on request probabilities and the accepted path.
///
/// ```
/// use sunfleck::tree::DraftTree;
///
/// let tree = DraftTree::merge(7, &[[1], [2]], 8)?;
/// let drawing = tree
///     .drawing(|token| format!("t{token}"))
///     .probabilities(&[1.0, 0.25, 0.5])
///     .accepted(&[0, 2]);
/// assert_eq!(drawing.to_text(), "t7 *\n├─ t1 0.250\n└─ t2 0.500 *\n");
/// assert!(drawing.to_svg().starts_with("<svg "));
/// # Ok::<(), sunfleck::tree::TreeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct TreeDrawing<'a> {
    pub(super) tree: &'a DraftTree,
    pub(super) nodes: Vec<DrawnNode>,
}

/// What is shown of a node.
#[derive(Debug, Clone)]
pub(super) struct DrawnNode {
    pub name: String,
    pub probability: Option<f32>,
    pub is_accepted: bool,
}

impl DraftTree {
    /// A drawing in which `name` gives a token's text. Characters that would break a line are shown
    /// escaped.
    pub fn drawing(&self, name: impl Fn(u32) -> String) -> TreeDrawing<'_> {
        let node = |&token: &u32| DrawnNode {
            name: visible(&name(token)),
            probability: None,
            is_accepted: false,
        };
        TreeDrawing {
            tree: self,
            nodes: self.tokens().iter().map(node).collect(),
        }
    }

    /// The tree as indented lines, one a node, in preorder: [`drawing`](Self::drawing) with nothing but
    /// tokens.
    pub fn to_text(&self, name: impl Fn(u32) -> String) -> String {
        self.drawing(name).to_text()
    }
}

impl TreeDrawing<'_> {
    /// Shows each node's probability, one a node; the root's is not shown, since it is committed.
    pub fn probabilities(mut self, probabilities: &[f32]) -> Self {
        for (node, &probability) in self.nodes.iter_mut().zip(probabilities).skip(1) {
            node.probability = Some(probability);
        }
        self
    }

    /// Marks the nodes of `path`, as in [`Outcome::path`](crate::verify::Outcome::path); others are passed
    /// over.
    pub fn accepted(mut self, path: &[u32]) -> Self {
        for &node in path {
            if let Some(node) = self.nodes.get_mut(node as usize) {
                node.is_accepted = true;
            }
        }
        self
    }

    /// Indented lines, one a node, in preorder; accepted nodes end with a star.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Nodes still to draw, the next one last, each with the lines that stand before it.
        let mut stack = vec![(0usize, String::new())];
        while let Some((node, lead)) = stack.pop() {
            let is_last = self.tree.next_siblings()[node] == NONE;
            let (branch, below) = match (node, is_last) {
                (0, _) => ("", ""),
                (_, true) => ("└─ ", "   "),
                (_, false) => ("├─ ", "│  "),
            };
            text.push_str(&lead);
            text.push_str(branch);
            text.push_str(&self.nodes[node].label());
            text.push_str(if self.nodes[node].is_accepted {
                " *\n"
            } else {
                "\n"
            });
            let children: Vec<usize> = self.tree.children(node).collect();
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

impl DrawnNode {
    /// Name and probability.
    pub fn label(&self) -> String {
        match self.probability {
            Some(probability) => format!("{} {probability:.3}", self.name),
            None => self.name.clone(),
        }
    }
}

/// The text without characters that have no shape of their own, such as line breaks.
fn visible(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = (!c.is_control()).then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}
