//! Draft trees.

use sunfleck::tree::{DraftTree as Tree, DrawKind};
use wasm_bindgen::prelude::*;

use crate::error::{Code, fail};

/// How the children of a node were drawn.
pub const DRAWS: [(&str, DrawKind); 3] = [
    ("top-k", DrawKind::TopK),
    ("iid", DrawKind::Iid),
    ("without-replacement", DrawKind::WithoutReplacement),
];

/// A draft tree. Node 0 is the last committed token.
#[wasm_bindgen]
pub struct DraftTree(pub(crate) Tree);

#[wasm_bindgen]
impl DraftTree {
    /// One continuation of `root`.
    pub fn chain(root: u32, tokens: &[u32]) -> Result<DraftTree, JsValue> {
        wrap(Tree::chain(root, tokens))
    }

    /// From the token and the parent of each node; the root's parent is 2^32 - 1.
    #[wasm_bindgen(js_name = fromParents)]
    pub fn from_parents(
        tokens: Vec<u32>,
        parents: Vec<u32>,
        draw: &str,
    ) -> Result<DraftTree, JsValue> {
        let Some((_, draw)) = DRAWS.iter().find(|(name, _)| *name == draw) else {
            return Err(fail(
                Code::Argument,
                format!("`draw` must be top-k, iid or without-replacement, given {draw}"),
            ));
        };
        wrap(Tree::from_parents(tokens, parents, *draw))
    }

    /// Several continuations of `root` with common beginnings shared: `tokens` has them one after the other,
    /// `lengths` says how long each is.
    pub fn merge(
        root: u32,
        tokens: &[u32],
        lengths: &[u32],
        max_nodes: u32,
    ) -> Result<DraftTree, JsValue> {
        let mut rest = tokens;
        let mut sequences = Vec::new();
        for length in lengths {
            let Some((sequence, after)) = rest.split_at_checked(*length as usize) else {
                return Err(fail(
                    Code::Argument,
                    "the lengths add up to more tokens than there are",
                ));
            };
            sequences.push(sequence);
            rest = after;
        }
        wrap(Tree::merge(root, &sequences, max_nodes as usize))
    }

    /// Token of each node.
    #[wasm_bindgen(getter)]
    pub fn tokens(&self) -> Vec<u32> {
        self.0.tokens().to_vec()
    }

    /// Parent of each node.
    #[wasm_bindgen(getter)]
    pub fn parents(&self) -> Vec<u32> {
        self.0.parents().to_vec()
    }

    /// Edges from the root to each node.
    #[wasm_bindgen(getter)]
    pub fn depths(&self) -> Vec<u32> {
        self.0.depths().to_vec()
    }

    /// Whether `ancestor` is on the path from the root to `node`, `node` included.
    pub fn sees(&self, node: u32, ancestor: u32) -> bool {
        self.0.sees(node as usize, ancestor as usize)
    }

    /// What kernels read, with room for `max_nodes` nodes.
    pub fn blob(&self, max_nodes: u32) -> Result<Vec<u32>, JsValue> {
        self.0
            .blob(max_nodes as usize)
            .map_err(|error| fail(Code::Tree, error))
    }

    /// Nodes from the root to `node`, both included.
    #[wasm_bindgen(js_name = pathTo)]
    pub fn path_to(&self, node: u32) -> Option<Vec<u32>> {
        self.0.path_to(node as usize)
    }

    /// A drawing as text or as SVG, with a text, a probability and a mark for the
    /// nodes of `path`.
    pub fn draw(
        &self,
        texts: Vec<String>,
        probabilities: &[f32],
        path: &[u32],
        svg: bool,
    ) -> String {
        // A drawing asks for the nodes in order.
        let mut texts = texts.into_iter();
        let texts = std::cell::RefCell::new(&mut texts);
        let name = |token: u32| (texts.borrow_mut().next()).unwrap_or_else(|| token.to_string());
        let mut drawing = self.0.drawing(name);
        if !probabilities.is_empty() {
            drawing = drawing.probabilities(probabilities);
        }
        let drawing = drawing.accepted(path);
        match svg {
            true => drawing.to_svg(),
            false => drawing.to_text(),
        }
    }
}

fn wrap(tree: Result<Tree, impl std::fmt::Display>) -> Result<DraftTree, JsValue> {
    tree.map(DraftTree).map_err(|error| fail(Code::Tree, error))
}
