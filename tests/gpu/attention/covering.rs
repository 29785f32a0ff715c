//! Which cases of the matrix run: a covering of all pairs of values, sweeps, and company.

use std::collections::BTreeSet;

use super::axes::{AXES, Case};
use crate::random::Random;

/// Around which each axis is swept.
const CENTRES: [&str; 4] = [
    "keys=1024 group=4 mask=causal k=f16 v=f16",
    "keys=512 queries=16 group=3 kv_heads=2 mask=tree lse=lse order=invariant",
    "keys=113 queries=75 group=4 mask=causal",
    "keys=512 queries=8 head=128 group=8 batch=3 lengths=ragged mask=causal window=300 q=bf16 \
     k=bf16 v=bf16 o=bf16",
];

/// A case of which some axes are chosen.
type Partial = Vec<Option<usize>>;

/// The cheapest case that a partial one can become.
fn cheapest(partial: &Partial) -> Case {
    let mut case = Case(partial.iter().map(|value| value.unwrap_or(0)).collect());
    // A tree needs as many keys as nodes: the only choice where the first value may not do.
    let keys = AXES.iter().position(|axis| axis.0 == "keys").unwrap();
    while partial[keys].is_none()
        && case.get("mask") == "tree"
        && case.number("keys") < case.number("queries")
    {
        case.0[keys] += 1;
    }
    case
}

/// An axis and its value.
pub type Value = (usize, usize);

pub fn values() -> impl Iterator<Item = Value> {
    let axes = AXES.iter().enumerate();
    axes.flat_map(|(axis, (_, values))| (0..values.len()).map(move |value| (axis, value)))
}

/// All pairs of values of different axes that some case of `work` has.
pub fn possible_pairs(work: u64) -> BTreeSet<(Value, Value)> {
    let mut pairs = BTreeSet::new();
    for a in values() {
        for b in values().filter(|b| a.0 < b.0) {
            let mut partial = vec![None; AXES.len()];
            partial[a.0] = Some(a.1);
            partial[b.0] = Some(b.1);
            if cheapest(&partial).allowed(work) {
                pairs.insert((a, b));
            }
        }
    }
    pairs
}

fn pair(a: Value, b: Value) -> (Value, Value) {
    if a.0 < b.0 { (a, b) } else { (b, a) }
}

/// Cases in which every possible pair of values occurs, those with most new pairs first. Another
/// seed gives other company to each pair.
pub fn covering(work: u64, seed: u64) -> Vec<Case> {
    let mut random = Random(seed);
    let mut uncovered = possible_pairs(work);
    let mut cases = Vec::new();
    while !uncovered.is_empty() {
        let at = random.below(uncovered.len() as u32) as usize;
        let (a, b) = *uncovered.iter().nth(at).unwrap();
        let mut partial: Partial = vec![None; AXES.len()];
        partial[a.0] = Some(a.1);
        partial[b.0] = Some(b.1);
        let mut rest: Vec<_> = (0..AXES.len()).filter(|i| partial[*i].is_none()).collect();
        while !rest.is_empty() {
            let axis = rest.swap_remove(random.below(rest.len() as u32) as usize);
            let candidates = (0..AXES[axis].1.len()).filter_map(|value| {
                let mut with = partial.clone();
                with[axis] = Some(value);
                if !cheapest(&with).allowed(work) {
                    return None;
                }
                let new = (0..AXES.len())
                    .filter_map(|other| Some((other, partial[other]?)))
                    .filter(|other| uncovered.contains(&pair(*other, (axis, value))));
                Some((new.count(), random.next(), value))
            });
            // The cheapest case of `partial` is allowed, so its value here is.
            partial[axis] = candidates.max().map(|(_, _, value)| value);
        }
        let case = cheapest(&partial);
        for a in case.0.iter().copied().enumerate() {
            for b in case.0.iter().copied().enumerate().skip(a.0 + 1) {
                uncovered.remove(&(a, b));
            }
        }
        cases.push(case);
    }
    cases
}

/// Each axis swept around each centre.
pub fn sweeps(work: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    for centre in CENTRES {
        for (axis, value) in values() {
            let mut case = Case::parse(centre);
            case.0[axis] = value;
            if case.allowed(work) && !cases.contains(&case) {
                cases.push(case);
            }
        }
    }
    cases
}

/// Axes on which no kernel's text depends: another value costs no compilation.
const RUNTIME_AXES: [&str; 7] = [
    "kv_heads",
    "batch",
    "keys",
    "queries",
    "lengths",
    "placement",
    "recorded",
];

/// `case`, and up to `count` cases that run its kernels on the sizes of others.
pub fn with_company(case: &Case, others: &[Case], count: usize, work: u64) -> Vec<Case> {
    let mut company = vec![case.clone()];
    for other in others {
        let mut with = case.clone();
        for (axis, (name, _)) in AXES.iter().enumerate() {
            if RUNTIME_AXES.contains(name) {
                with.0[axis] = other.0[axis];
            }
        }
        if company.len() <= count && with.allowed(work) && !company.contains(&with) {
            company.push(with);
        }
    }
    company
}
