//! What is measured: sizes, rules and options.

use sunfleck::{
    tree::DrawKind,
    verify::{LossyTypical, Rule, Sampling},
};

/// How the nodes of a tree hang together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One child a node: nothing has to be moved after it.
    Chain,
    /// Three children a node, level by level.
    Tree,
}

/// One measured verification of one request.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub vocabulary: u32,
    /// Nodes of the tree, the root included.
    pub nodes: u32,
    pub shape: Shape,
    pub rule: Rule,
    pub draw: DrawKind,
    pub sampling: Sampling,
}

/// Sizes of vocabularies, to the largest that kernels take.
pub const VOCABULARIES: [u32; 5] = [1_024, 8_192, 49_152, 131_072, 262_144];
/// Sizes of trees.
pub const NODES: [u32; 4] = [1, 4, 16, 64];

impl Case {
    /// Rejection over a chain of tokens that were chosen without chance, at temperature 0.7.
    pub fn plain(vocabulary: u32, nodes: u32) -> Self {
        Self {
            name: format!("chain/{vocabulary}x{nodes}"),
            vocabulary,
            nodes,
            shape: Shape::Chain,
            rule: Rule::Rejection,
            draw: DrawKind::TopK,
            sampling: Sampling {
                temperature: 0.7,
                ..Sampling::default()
            },
        }
    }

    /// Node above each node but the root.
    pub fn parent(&self, node: u32) -> u32 {
        match self.shape {
            Shape::Chain => node - 1,
            Shape::Tree => (node - 1) / 3,
        }
    }

    pub fn is_drawn(&self) -> bool {
        self.draw != DrawKind::TopK
    }

    pub fn has_penalty(&self) -> bool {
        self.sampling.has_penalty()
    }
}

/// Every size of the plain case, and every rule, draw and option at one size.
pub fn cases(software: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    for vocabulary in VOCABULARIES {
        cases.extend(NODES.map(|nodes| Case::plain(vocabulary, nodes)));
    }
    let (vocabulary, nodes) = if software {
        (49_152, 16)
    } else {
        (131_072, 64)
    };
    let mut push = |name: &str, shape, rule, draw, change: fn(&mut Sampling)| {
        let mut case = Case::plain(vocabulary, nodes);
        case.name = format!("{name}/{vocabulary}x{nodes}");
        (case.shape, case.rule, case.draw) = (shape, rule, draw);
        change(&mut case.sampling);
        cases.push(case);
    };
    use DrawKind::{Iid, TopK, WithoutReplacement};
    use Shape::{Chain, Tree};
    push("tree", Tree, Rule::Rejection, TopK, |_| ());
    push("greedy", Chain, Rule::Greedy, TopK, |_| ());
    push("top-k 50", Chain, Rule::Rejection, TopK, |s| s.top_k = 50);
    push("top-p 0.95", Chain, Rule::Rejection, TopK, |s| {
        s.top_p = 0.95;
    });
    push("min-p 0.05", Chain, Rule::Rejection, TopK, |s| {
        s.min_p = 0.05;
    });
    push("all cuts", Chain, Rule::Rejection, TopK, |s| {
        (s.top_k, s.top_p, s.min_p) = (50, 0.95, 0.05);
    });
    push("penalties", Chain, Rule::Rejection, TopK, |s| {
        (s.repetition_penalty, s.presence_penalty) = (1.1, 0.1);
    });
    push(
        "typical",
        Chain,
        Rule::LossyTypical(LossyTypical::default()),
        TopK,
        |_| (),
    );
    push("traversal", Tree, Rule::Traversal, TopK, |_| ());
    push("block", Chain, Rule::Block, TopK, |_| ());
    push("drawn chain", Chain, Rule::ChainRejection, Iid, |_| ());
    push("drawn block", Chain, Rule::Block, Iid, |_| ());
    push(
        "drawn tree",
        Tree,
        Rule::Rejection,
        WithoutReplacement,
        |_| (),
    );
    push(
        "drawn traversal",
        Tree,
        Rule::Traversal,
        WithoutReplacement,
        |_| (),
    );
    cases
}
