//! Traversal verification of a tree (Weng et al. 2025, algorithm 2).

use super::chance::Chance;
use super::{Verified, VerifyError, VerifyInput};
use crate::reference::philox::{Draw, Purpose};
use crate::tree::DrawKind;

/// Tests the leftmost leaf with its whole path; a leaf that fails is cut off, and what its parent's
/// distribution still owes is spread over the parent's other continuations. A node whose children are all
/// cut off is a leaf. The root always passes.
pub(super) fn traversal(
    input: &VerifyInput<'_>,
    chance: &mut dyn Chance,
) -> Result<Verified, VerifyError> {
    // The path of nodes whose children are being looked at, each with the next child.
    let mut path = vec![Visit::new(input, 0, 1.0)];
    while let Some(visit) = path.last_mut() {
        let node = visit.node;
        if let Some((child, a)) = visit.descend(input)? {
            path.push(Visit::new(input, child, a));
            continue;
        }
        let draw = Draw {
            position: input.position_of(node),
            child: node as u32,
            purpose: Purpose::AcceptTraversal,
            block: input.tree.depths()[node],
        };
        if node == 0 || chance.is_below(draw, visit.a, 1.0) {
            return input.finish(node, &visit.p, chance);
        }
        path.pop();
        if let Some(parent) = path.last_mut() {
            parent.cut_off(input, node);
        }
    }
    Err(VerifyError::NoSupport { node: 0 })
}

/// A node on the way to the leaf under test.
struct Visit {
    node: usize,
    a: f64,              // with what probability the node is kept, were it a leaf
    p: Vec<f64>,         // what follows it then
    q: Option<Vec<f64>>, // from what its next child was drawn; None: chosen without chance
    next: Option<usize>, // the next child
}

impl Visit {
    fn new(input: &VerifyInput<'_>, node: usize, a: f64) -> Self {
        Self {
            node,
            a,
            p: input.target_row(node).to_vec(),
            q: input.draft_row(node).map(<[f64]>::to_vec),
            next: input.tree.children(node).next(),
        }
    }

    fn q_of(&self, token: usize) -> f64 {
        self.q.as_ref().map_or(1.0, |q| q[token])
    }

    /// The next child and the probability with which it is kept.
    fn descend(&self, input: &VerifyInput<'_>) -> Result<Option<(usize, f64)>, VerifyError> {
        let Some(child) = self.next else {
            return Ok(None);
        };
        let token = input.tree.tokens()[child] as usize;
        let q = self.q_of(token);
        if q <= 0.0 {
            let token = token as u32;
            return Err(VerifyError::ImpossibleDraft { node: child, token });
        }
        Ok(Some((child, f64::min(1.0, self.a * self.p[token] / q))))
    }

    /// Goes on as if `child`, the first that was left, had never been drafted.
    fn cut_off(&mut self, input: &VerifyInput<'_>, child: usize) {
        let token = input.tree.tokens()[child] as usize;
        for (y, p) in self.p.iter_mut().enumerate() {
            let q = match &self.q {
                Some(q) => q[y],
                None => f64::from(y == token),
            };
            *p = (self.a * *p - q).max(0.0);
        }
        let sum: f64 = self.p.iter().sum();
        self.a = if sum > 0.0 {
            sum / (sum + 1.0 - self.a)
        } else {
            0.0
        };
        if sum > 0.0 {
            self.p.iter_mut().for_each(|p| *p /= sum);
        }
        if let (Some(q), DrawKind::WithoutReplacement) = (&mut self.q, input.tree.draw()) {
            q[token] = 0.0;
            let rest: f64 = q.iter().sum();
            if rest > 0.0 {
                q.iter_mut().for_each(|q| *q /= rest);
            }
        }
        let sibling = input.tree.next_siblings()[child] as usize;
        self.next = (sibling < input.tree.len()).then_some(sibling);
    }
}
