//! The joint law of three tokens, over several steps: chi-squared at a false-fail rate of about 1e-9.

use std::collections::HashMap;

use sunfleck::{
    reference::verify::enumerate::{Model, target_law},
    tree::{DraftTree, DrawKind, NONE},
    verify::{LossyTypical, Rule, VerifyProblem, VerifyRequest},
};

use super::{Case, draw_from, run};
use crate::adapters::{TestGpu, on_every_adapter};
use crate::random::Random;

const VOCABULARY: usize = 3;
const TEXTS: u32 = 3000;

/// A distribution that depends on all tokens so far.
fn next(salt: u64, context: &[u32]) -> Vec<f64> {
    let hash = context.iter().fold(salt, |hash, &token| {
        Random(hash ^ u64::from(token + 1)).next()
    });
    let weights: Vec<f64> = (0..VOCABULARY as u64)
        .map(|y| 1.0 + 6.0 * Random(hash ^ (y << 32)).unit())
        .collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

fn target(context: &[u32]) -> Vec<f64> {
    next(11, context)
}

fn drafting(context: &[u32]) -> Vec<f64> {
    next(12, context)
}

/// A drafted tree of this shape after `context`, drawn with `draw`.
fn drafted(random: &mut Random, context: &[u32], parents: &[u32], draw: DrawKind) -> DraftTree {
    let mut contexts = vec![context.to_vec()];
    let mut tokens = vec![*context.last().unwrap()];
    for node in 1..parents.len() {
        let parent = parents[node] as usize;
        let mut q = drafting(&contexts[parent]);
        let siblings = (1..node).filter(|&s| parents[s] == parents[node]);
        if draw != DrawKind::Iid {
            siblings.for_each(|s| q[tokens[s] as usize] = 0.0);
        }
        let token = match draw {
            DrawKind::TopK => (0..q.len()).max_by(|&a, &b| q[a].total_cmp(&q[b])).unwrap(),
            _ => draw_from(random, &q),
        };
        tokens.push(token as u32);
        let mut longer = contexts[parent].clone();
        longer.push(token as u32);
        contexts.push(longer);
    }
    DraftTree::from_parents(tokens, parents.to_vec(), draw).unwrap()
}

fn logs(p: Vec<f64>) -> impl Iterator<Item = f32> {
    p.into_iter().map(|p| p.ln() as f32)
}

/// Chi-squared of the first three tokens of many texts against the target's law. `claimed` is the draw
/// that the verification is told.
fn chi_squared(
    gpu: &TestGpu,
    rule: Rule,
    parents: &[u32],
    drawn: DrawKind,
    claimed: DrawKind,
) -> f64 {
    let mut random = Random(5);
    let mut texts: Vec<Vec<u32>> = vec![vec![0]; TEXTS as usize];
    // Every step gives at least one token.
    for _ in 0..3 {
        let cases: Vec<Case> = (0u64..)
            .zip(&texts)
            .map(|(text, context)| {
                let tree = drafted(&mut random, context, parents, drawn)
                    .with_draw(claimed)
                    .unwrap();
                let after = |node: usize| {
                    let path = tree.path_to(node).unwrap();
                    let path = path[1..].iter().map(|&n| tree.tokens()[n as usize]);
                    context.iter().copied().chain(path).collect::<Vec<u32>>()
                };
                let logits = (0..tree.len())
                    .flat_map(|node| logs(target(&after(node))))
                    .collect();
                let inner = (0..tree.len()).filter(|&node| tree.children(node).next().is_some());
                let draft = match claimed {
                    DrawKind::TopK => Vec::new(),
                    _ => inner
                        .flat_map(|node| logs(drafting(&after(node))))
                        .collect(),
                };
                Case {
                    request: VerifyRequest::new(rule, claimed, 1_000_000 + text),
                    position: context.len() as u32 - 1,
                    tree,
                    logits,
                    draft,
                    occurred: Vec::new(),
                    grammar: Vec::new(),
                }
            })
            .collect();
        let mut problem = VerifyProblem::new(TEXTS, parents.len() as u32, VOCABULARY as u32);
        problem.draft_rows = cases
            .iter()
            .map(|c| c.draft.len() / VOCABULARY)
            .max()
            .unwrap() as u32;
        let (verdicts, lengths) = run(&gpu.gpu, &problem, &cases);
        for ((text, verdict), length) in texts.iter_mut().zip(verdicts).zip(lengths) {
            text.extend(verdict.unwrap().tokens);
            assert_eq!(
                length as usize,
                text.len() - 1,
                "{}: the root's position",
                gpu.name
            );
        }
    }
    of_counts(&texts)
}

/// Chi-squared of the first three tokens after the root.
fn of_counts(texts: &[Vec<u32>]) -> f64 {
    let mut counts: HashMap<usize, f64> = HashMap::new();
    for text in texts {
        let cell = text[1..4]
            .iter()
            .fold(0, |cell, &y| cell * VOCABULARY + y as usize);
        *counts.entry(cell).or_default() += 1.0;
    }
    let model = Model {
        vocabulary: VOCABULARY,
        target: &target,
        draft: &drafting,
    };
    let law = target_law(&model, 3);
    let cells = law.iter().enumerate().map(|(cell, p)| {
        let expected = p * f64::from(TEXTS);
        assert!(
            expected > 5.0,
            "too few texts for the approximation: {expected}"
        );
        (counts.get(&cell).copied().unwrap_or(0.0) - expected).powi(2) / expected
    });
    cells.sum()
}

/// What chi-squared with 26 degrees of freedom passes once in 1e9 (Wilson and Hilferty 1931, six standard
/// deviations).
fn critical() -> f64 {
    let freedom = (VOCABULARY.pow(3) - 1) as f64;
    let share = 2.0 / (9.0 * freedom);
    freedom * (1.0 - share + 6.0 * share.sqrt()).powi(3)
}

/// The thousands of requests of a batch take minutes where workgroups are slow: there, other tests compare the
/// same kernels with the twin.
fn on_fast_adapters(test: impl Fn(&TestGpu)) {
    on_every_adapter(|gpu| {
        if crate::full() || !(!gpu.name.contains("llvmpipe") || !gpu.name.contains("all features"))
        {
            test(gpu);
        }
    });
}

const BUSH: [u32; 6] = [NONE, 0, 0, 1, 1, 2];
const CHAIN: [u32; 3] = [NONE, 0, 1];

#[test]
fn rejection_has_the_law_of_the_target_for_every_draw() {
    on_fast_adapters(|gpu| {
        for draw in [DrawKind::TopK, DrawKind::Iid, DrawKind::WithoutReplacement] {
            let x = chi_squared(gpu, Rule::Rejection, &BUSH, draw, draw);
            assert!(x < critical(), "{}: {draw:?}: {x}", gpu.name);
        }
    });
}

#[test]
fn rules_for_chains_have_the_law_of_the_target() {
    on_fast_adapters(|gpu| {
        for rule in [Rule::ChainRejection, Rule::Block] {
            for draw in [DrawKind::TopK, DrawKind::Iid] {
                let x = chi_squared(gpu, rule, &CHAIN, draw, draw);
                assert!(x < critical(), "{}: {rule:?} {draw:?}: {x}", gpu.name);
            }
        }
    });
}

#[test]
fn traversal_has_the_law_of_the_target_for_every_draw() {
    on_fast_adapters(|gpu| {
        for draw in [DrawKind::TopK, DrawKind::Iid, DrawKind::WithoutReplacement] {
            let x = chi_squared(gpu, Rule::Traversal, &BUSH, draw, draw);
            assert!(x < critical(), "{}: {draw:?}: {x}", gpu.name);
        }
    });
}

/// As [`chi_squared`], with two independent siblings each tested against an unchanged target distribution, as one
/// engine does: each is the only child of a tree of its own, with numbers of its own.
fn chi_squared_of_unchanged(gpu: &TestGpu) -> f64 {
    let mut random = Random(6);
    let mut texts: Vec<Vec<u32>> = vec![vec![0]; TEXTS as usize];
    for _ in 0..3 {
        let siblings = [0u64, 1].map(|sibling| {
            let cases: Vec<Case> = (0u64..)
                .zip(&texts)
                .map(|(text, context)| {
                    let tree = drafted(&mut random, context, &[NONE, 0], DrawKind::Iid);
                    let child: Vec<u32> =
                        context.iter().chain(&tree.tokens()[1..]).copied().collect();
                    let seed = 2 * text + sibling;
                    Case {
                        request: VerifyRequest::new(Rule::Rejection, DrawKind::Iid, seed),
                        position: context.len() as u32 - 1,
                        tree,
                        logits: logs(target(context)).chain(logs(target(&child))).collect(),
                        draft: logs(drafting(context)).collect(),
                        occurred: Vec::new(),
                        grammar: Vec::new(),
                    }
                })
                .collect();
            let mut problem = VerifyProblem::new(TEXTS, 2, VOCABULARY as u32);
            problem.draft_rows = 1;
            run(&gpu.gpu, &problem, &cases).0
        });
        let [first, second] = siblings;
        for ((text, first), second) in texts.iter_mut().zip(first).zip(second) {
            let first = first.unwrap();
            // The second where the first is rejected; where both are, what is left of the second's test.
            let kept = if first.path.len() > 1 {
                first
            } else {
                second.unwrap()
            };
            text.push(kept.tokens[0]);
        }
    }
    of_counts(&texts)
}

#[test]
fn siblings_tested_against_an_unchanged_target_fail_the_same_test() {
    on_fast_adapters(|gpu| {
        let x = chi_squared_of_unchanged(gpu);
        assert!(x > 2.0 * critical(), "{}: {x}", gpu.name);
    });
}

#[test]
fn wrong_rules_fail_the_same_test() {
    on_fast_adapters(|gpu| {
        // The likeliest tokens, verified as if drawn by chance.
        let claimed = DrawKind::WithoutReplacement;
        let x = chi_squared(gpu, Rule::Rejection, &BUSH, DrawKind::TopK, claimed);
        assert!(x > 2.0 * critical(), "{}: {x}", gpu.name);
        // Drawn without replacement, verified as independent.
        let drawn = DrawKind::Iid;
        let typical = Rule::LossyTypical(LossyTypical::default());
        let x = chi_squared(gpu, typical, &BUSH, drawn, drawn);
        assert!(x > 2.0 * critical(), "{}: {x}", gpu.name);
    });
}
