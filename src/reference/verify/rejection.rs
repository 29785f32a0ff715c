//! Rejection sampling over the children of a node, one form for all draws: the twin of
//! `verify/children.wgsl` and `verify/walk.wgsl`.

use super::chance::{Chance, accept_draw};
use super::{Verified, VerifyError, VerifyInput};
use crate::tree::DrawKind;

/// What is left of a target distribution `p` after drafted tokens were rejected.
///
/// After the first rejection the rest is `max(p - q, 0)`, then `max(max(p - q, 0) / M - q', 0)` and so on,
/// each over its own sum `M`. All of these are `max(p - s q, 0)` with one number `s`, because taking the
/// positive part twice with growing `s` is taking it once; so neither `p` nor `q` is ever changed. Without
/// replacement, `q'` is `q` over the mass `1 - Q` of the tokens that are left. A token that was chosen
/// without chance takes all its mass along when it is rejected.
#[derive(Debug, Clone)]
pub struct Residual<'a> {
    p: &'a [f64],
    q: Option<&'a [f64]>,       // None: tokens were chosen without chance
    removed: Option<Vec<bool>>, // tokens that can't be drawn again; None for independent draws
    s: f64,
    mass: f64, // M, sum of the residual
    rest: f64, // 1 - Q, mass of q on tokens that may still be drawn
}

impl<'a> Residual<'a> {
    /// The whole of `p`, from which children drawn with `draw` from `q` are going to be tested. `q` is
    /// `None` for [`DrawKind::TopK`].
    pub fn new(draw: DrawKind, p: &'a [f64], q: Option<&'a [f64]>) -> Self {
        let mut residual = Self {
            p,
            q,
            removed: (draw != DrawKind::Iid).then(|| vec![false; p.len()]),
            s: 0.0,
            mass: 0.0,
            rest: 0.0,
        };
        residual.sum();
        residual
    }

    /// What is left of the probability of `token`, not normalised.
    pub fn weight(&self, token: usize) -> f64 {
        if self.is_removed(token) {
            return 0.0;
        }
        match self.q {
            Some(q) => (self.p[token] - self.s * q[token]).max(0.0),
            None => self.p[token],
        }
    }

    /// All weights.
    pub fn weights(&self) -> Vec<f64> {
        (0..self.p.len()).map(|token| self.weight(token)).collect()
    }

    /// `(bound, scale)`: the next child, with `token`, is accepted iff `u * scale < bound`.
    pub fn acceptance(&self, token: usize) -> (f64, f64) {
        match self.q {
            Some(q) => (self.rest * self.weight(token), self.mass * q[token]),
            None => (self.weight(token), self.mass),
        }
    }

    /// Takes note that `token` was rejected.
    pub fn reject(&mut self, token: usize) {
        // The draft's mass is lost to rounding only when all that it could draw was drawn.
        if self.rest > 0.0 {
            self.s += self.mass / self.rest;
        }
        if let Some(removed) = &mut self.removed {
            removed[token] = true;
        }
        self.sum();
    }

    fn is_removed(&self, token: usize) -> bool {
        self.removed.as_ref().is_some_and(|removed| removed[token])
    }

    /// Sums over what remains: a difference from 1 would lose all digits where little remains.
    fn sum(&mut self) {
        self.mass = (0..self.p.len()).map(|token| self.weight(token)).sum();
        self.rest = self.q.map_or(1.0, |q| {
            (0..q.len())
                .filter(|&y| !self.is_removed(y))
                .map(|y| q[y])
                .sum()
        });
    }
}

/// From the root down: the first accepted child of each node, and where none is accepted a token of what
/// is left.
pub(super) fn rejection(
    input: &VerifyInput<'_>,
    chance: &mut dyn Chance,
) -> Result<Verified, VerifyError> {
    let tree = input.tree;
    let mut at = 0;
    'descend: loop {
        let q = input.draft_row(at);
        let mut residual = Residual::new(tree.draw(), input.target_row(at), q);
        for (ordinal, child) in (0..).zip(tree.children(at)) {
            let token = tree.tokens()[child] as usize;
            if q.is_some_and(|q| q[token] <= 0.0) {
                let token = token as u32;
                return Err(VerifyError::ImpossibleDraft { node: child, token });
            }
            let (bound, scale) = residual.acceptance(token);
            let draw = accept_draw(input.position_of(child), ordinal);
            if chance.is_below(draw, bound, scale) {
                at = child;
                continue 'descend;
            }
            residual.reject(token);
        }
        return input.finish(at, &residual.weights(), chance);
    }
}
