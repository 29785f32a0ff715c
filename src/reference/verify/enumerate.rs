//! The exact law of a verification's output, by going through every draft and every decision.
//!
//! On tiny vocabularies everything that chance can do is countable: each draft that a drafter can draw,
//! and for each draft each way in which the rule's random questions can be answered. The law of the output
//! is the sum over all of it, without a random number and so without doubt. A step keeps a varying number of
//! tokens; to compare laws, what is missing to a fixed length is filled up by the target model. A rule
//! is lossless iff the result is the law of the target model, to rounding.
//!
//! ```
//! use sunfleck::reference::verify::{enumerate::{Model, output_law, target_law, total_variation}, verify};
//! use sunfleck::{tree::{DrawKind, NONE}, verify::Rule};
//!
//! // One distribution for the target and another for the draft, whatever came before.
//! let model = Model {
//!     vocabulary: 3,
//!     target: &|_| vec![0.5, 0.3, 0.2],
//!     draft: &|_| vec![0.1, 0.2, 0.7],
//! };
//! let two_children = [NONE, 0, 0];
//! let law = output_law(&two_children, DrawKind::Iid, &model, &|input, chance| {
//!     verify(Rule::Rejection, input, chance)
//! })?;
//! assert!(total_variation(&law, &target_law(&model, 2)) < 1e-12);
//! # Ok::<(), sunfleck::reference::verify::VerifyError>(())
//! ```

use std::collections::HashSet;

use super::chance::Chance;
use super::{Verified, VerifyError, VerifyInput};
use crate::reference::philox::Draw;
use crate::tree::{DraftTree, DrawKind, NONE};

/// A distribution over the next token, `[vocabulary]`, given the tokens so far, the root first.
pub type NextToken<'a> = &'a dyn Fn(&[u32]) -> Vec<f64>;

/// A verification under test: [`verify`](super::verify()) with a rule, or a rule of one's own.
pub type Verification<'a> =
    &'a dyn Fn(&VerifyInput<'_>, &mut dyn Chance) -> Result<Verified, VerifyError>;

/// A target and a draft model over a tiny vocabulary; the root is token 0.
#[derive(Clone, Copy)]
pub struct Model<'a> {
    /// Tokens.
    pub vocabulary: usize,
    /// The model whose law the output is to have.
    pub target: NextToken<'a>,
    /// The model from which drafts are drawn; without chance ([`DrawKind::TopK`]), its likeliest tokens.
    pub draft: NextToken<'a>,
}

/// The absolute position of the root in every enumeration.
const POSITION: u32 = 100;

/// The law of the first `depth + 1` tokens after the root, `[vocabulary^(depth + 1)]` with the first token
/// varying slowest, when trees of this shape (`parents`, as in [`DraftTree::from_parents`]) are drafted from
/// `model` with `draw` and verified once.
///
/// Drafts that can't be drawn, for want of tokens with a probability, are left out; a shape that no
/// draft has gives a law of 0.
///
/// # Errors
/// Those of the verification.
///
/// # Panics
/// When the shape is no tree, or a rule asks for the same random number twice: its decisions would
/// not be independent.
pub fn output_law(
    parents: &[u32],
    draw: DrawKind,
    model: &Model<'_>,
    verification: Verification<'_>,
) -> Result<Vec<f64>, VerifyError> {
    let shape =
        DraftTree::from_parents((0..parents.len() as u32).collect(), parents.to_vec(), draw)
            .unwrap_or_else(|error| panic!("{error}"));
    let length = shape.max_depth() as usize + 1;
    let mut law = vec![0.0; model.vocabulary.pow(length as u32)];
    for (tokens, probability) in drafts(&shape, model) {
        let tree = DraftTree::from_parents(tokens, parents.to_vec(), draw)
            .unwrap_or_else(|error| panic!("{error}"));
        let row = |node: usize, next: NextToken<'_>| next(&context(&tree, node));
        let target: Vec<f64> = (0..tree.len())
            .flat_map(|node| row(node, model.target))
            .collect();
        // Rows are numbered in the order of the parents.
        let draft: Vec<f64> = (0..tree.len())
            .filter(|&node| tree.children(node).next().is_some())
            .flat_map(|node| row(node, model.draft))
            .collect();
        let draft = (draw != DrawKind::TopK).then_some(draft.as_slice());
        let input = VerifyInput::new(&tree, model.vocabulary, &target, draft, POSITION)?;
        every_decision(&mut |chance| {
            let verified = verification(&input, chance)?;
            let probability = probability * chance.probability;
            complete(&mut law, length, &verified.tokens, probability, model);
            Ok(())
        })?;
    }
    Ok(law)
}

/// The target model's own law of the next `length` tokens, laid out as in [`output_law`].
pub fn target_law(model: &Model<'_>, length: usize) -> Vec<f64> {
    let mut law = vec![0.0; model.vocabulary.pow(length as u32)];
    complete(&mut law, length, &[], 1.0, model);
    law
}

/// Half the sum of absolute differences: the largest difference in the probability of any event.
pub fn total_variation(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0
}

/// Every shape of a draft tree of `nodes` nodes, the root included, and at most `max_depth`: lists of
/// parents.
pub fn shapes(nodes: usize, max_depth: usize) -> Vec<Vec<u32>> {
    let mut shapes = vec![(vec![NONE], vec![0usize])];
    for node in 1..nodes {
        shapes = shapes
            .into_iter()
            .flat_map(|(parents, depths)| {
                (0..node)
                    .filter(|&parent| depths[parent] < max_depth)
                    // Parents that never fall are one numbering of each ordered tree.
                    .filter(|&parent| node == 1 || parent as u32 >= parents[node - 1])
                    .map(|parent| {
                        let mut longer = (parents.clone(), depths.clone());
                        longer.0.push(parent as u32);
                        longer.1.push(depths[parent] + 1);
                        longer
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
    }
    shapes.into_iter().map(|(parents, _)| parents).collect()
}

/// Tokens from the root to `node`.
fn context(tree: &DraftTree, node: usize) -> Vec<u32> {
    let path = tree.path_to(node).unwrap_or_default();
    path.iter().map(|&n| tree.tokens()[n as usize]).collect()
}

/// Every draft of this shape with its probability.
fn drafts(shape: &DraftTree, model: &Model<'_>) -> Vec<(Vec<u32>, f64)> {
    let mut drafts = vec![(vec![0], 1.0)];
    for node in 1..shape.len() {
        let path = shape.path_to(node).unwrap_or_default();
        let parent = shape.parents()[node] as usize;
        let earlier: Vec<usize> = shape.children(parent).take_while(|&c| c < node).collect();
        drafts = drafts
            .into_iter()
            .flat_map(|(tokens, probability): (Vec<u32>, f64)| {
                let context: Vec<u32> = path[..path.len() - 1]
                    .iter()
                    .map(|&n| tokens[n as usize])
                    .collect();
                let mut q = (model.draft)(&context);
                if shape.draw() != DrawKind::Iid {
                    earlier
                        .iter()
                        .for_each(|&sibling| q[tokens[sibling] as usize] = 0.0);
                    let rest: f64 = q.iter().sum();
                    q.iter_mut()
                        .for_each(|q| *q = if rest > 0.0 { *q / rest } else { 0.0 });
                }
                if shape.draw() == DrawKind::TopK {
                    let best = (0..q.len()).rev().max_by(|&a, &b| q[a].total_cmp(&q[b]));
                    let has_mass = q.iter().any(|q| *q > 0.0);
                    q.iter_mut().for_each(|q| *q = 0.0);
                    if let (Some(best), true) = (best, has_mass) {
                        q[best] = 1.0;
                    }
                }
                (0..model.vocabulary)
                    .filter(|&y| q[y] > 0.0)
                    .map(|y| {
                        let longer = tokens.iter().copied().chain([y as u32]).collect();
                        (longer, probability * q[y])
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
    }
    drafts
}

/// Adds `probability` to every sequence of `length` tokens that starts with `tokens`, as the target would
/// go on.
fn complete(law: &mut [f64], length: usize, tokens: &[u32], probability: f64, model: &Model<'_>) {
    if tokens.len() == length {
        let index = tokens
            .iter()
            .fold(0, |index, &y| index * model.vocabulary + y as usize);
        law[index] += probability;
        return;
    }
    let context: Vec<u32> = std::iter::once(0).chain(tokens.iter().copied()).collect();
    for (y, p) in (model.target)(&context).into_iter().enumerate() {
        if p > 0.0 {
            let longer: Vec<u32> = tokens.iter().copied().chain([y as u32]).collect();
            complete(law, length, &longer, probability * p, model);
        }
    }
}

/// One way in which every random question is answered.
struct Branch {
    answers: Vec<usize>,  // to follow first
    asked: Vec<Vec<f64>>, // the probabilities of each question's answers
    draws: HashSet<Draw>,
    probability: f64,
}

/// Calls `run` once for each way in which its random questions can be answered.
fn every_decision(
    run: &mut dyn FnMut(&mut Branch) -> Result<(), VerifyError>,
) -> Result<(), VerifyError> {
    let mut answers = Vec::new();
    loop {
        let mut branch = Branch {
            answers,
            asked: Vec::new(),
            draws: HashSet::new(),
            probability: 1.0,
        };
        run(&mut branch)?;
        // The next way: another answer to the last question that has one left.
        answers = branch.answers;
        loop {
            let Some(last) = answers.pop() else {
                return Ok(());
            };
            let options = &branch.asked[answers.len()];
            if let Some(next) = (last + 1..options.len()).find(|&next| options[next] > 0.0) {
                answers.push(next);
                break;
            }
        }
    }
}

impl Branch {
    fn answer(&mut self, draw: Draw, options: Vec<f64>) -> usize {
        assert!(self.draws.insert(draw), "{draw:?} is asked for twice");
        let question = self.asked.len();
        if question == self.answers.len() {
            let first = options.iter().position(|p| *p > 0.0).unwrap_or(0);
            self.answers.push(first);
        }
        let answer = self.answers[question];
        self.probability *= options[answer];
        self.asked.push(options);
        answer
    }
}

impl Chance for Branch {
    fn is_below(&mut self, draw: Draw, bound: f64, scale: f64) -> bool {
        let yes = match (bound > 0.0, bound < scale) {
            (true, true) => bound / scale,
            (true, false) => 1.0,
            (false, _) => 0.0,
        };
        self.answer(draw, vec![yes, 1.0 - yes]) == 0
    }

    fn sample(&mut self, draw: Draw, weights: &[f64]) -> Option<usize> {
        let total: f64 = weights.iter().sum();
        if total <= 0.0 {
            return None;
        }
        Some(self.answer(draw, weights.iter().map(|w| w / total).collect()))
    }
}
