//! Proofs by enumeration: laws are compared exactly, not by samples.

use std::cell::Cell;
use std::collections::HashSet;

use super::chance::{Chance, FixedChance, PhiloxChance, accept_draw};
use super::enumerate::{Model, output_law, shapes, target_law, total_variation};
use super::*;
use crate::reference::philox::Draw;
use crate::tree::{DraftTree, DrawKind, NONE};
use crate::verify::{LossyTypical, RuleError};

const DRAWS: [DrawKind; 3] = [DrawKind::TopK, DrawKind::Iid, DrawKind::WithoutReplacement];
const EXACT: f64 = 1e-12;

/// A distribution that looks random and depends on all tokens so far; every third one has zeros.
fn scrambled(salt: u64, vocabulary: usize, context: &[u32], zeros: bool) -> Vec<f64> {
    let hash = context.iter().fold(salt, |hash, &token| {
        (hash ^ u64::from(token + 1))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
    });
    let weights: Vec<f64> = (0..vocabulary as u64)
        .map(|y| {
            let word =
                (hash ^ y.wrapping_mul(0xbf58_476d_1ce4_e5b9)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let weight = (word >> 40) % 9;
            if zeros && hash % 3 == 0 {
                weight / 3 * 2
            } else {
                weight + 1
            }
        })
        .map(|weight| weight as f64)
        .collect();
    let sum: f64 = weights.iter().sum();
    if sum == 0.0 {
        let mut first = vec![0.0; vocabulary];
        first[0] = 1.0;
        return first;
    }
    weights.iter().map(|weight| weight / sum).collect()
}

/// Calls `check` with pairs of models: unrelated, with zeros, equal, and a draft for a sure target.
fn for_models(vocabulary: usize, check: impl Fn(&str, &Model<'_>)) {
    let p = |context: &[u32]| scrambled(1, vocabulary, context, false);
    let q = |context: &[u32]| scrambled(2, vocabulary, context, false);
    let p_zeros = |context: &[u32]| scrambled(3, vocabulary, context, true);
    let q_zeros = |context: &[u32]| scrambled(4, vocabulary, context, true);
    let sure = |context: &[u32]| {
        let mut p = vec![0.0; vocabulary];
        p[context.len() % vocabulary] = 1.0;
        p
    };
    type Next<'a> = &'a dyn Fn(&[u32]) -> Vec<f64>;
    let pairs: [(&str, Next<'_>, Next<'_>); 5] = [
        ("unrelated", &p, &q),
        ("with zeros", &p_zeros, &q_zeros),
        ("equal", &p, &p),
        ("sure target", &sure, &q),
        ("sure draft", &p, &sure),
    ];
    for (name, target, draft) in pairs {
        check(
            name,
            &Model {
                vocabulary,
                target,
                draft,
            },
        );
    }
}

/// The proof: on every shape, draw and model the law of the output is that of the target.
/// Gives the number of proven cases.
fn prove(rule: Rule, draws: &[DrawKind], nodes: usize, depth: usize, vocabulary: usize) -> usize {
    let proven = Cell::new(0);
    for shape in (1..=nodes).flat_map(|nodes| shapes(nodes, depth)) {
        let is_chain = shape[1..]
            .iter()
            .enumerate()
            .all(|(i, &parent)| parent as usize == i);
        if matches!(rule, Rule::Block | Rule::ChainRejection) && !is_chain {
            continue;
        }
        for &draw in draws {
            for_models(vocabulary, |name, model| {
                let verification =
                    |input: &VerifyInput<'_>, chance: &mut dyn Chance| verify(rule, input, chance);
                let law = output_law(&shape, draw, model, &verification).unwrap();
                // A context that lacks tokens for so many distinct children leaves drafts out.
                if (law.iter().sum::<f64>() - 1.0).abs() > EXACT {
                    assert_ne!(draw, DrawKind::Iid);
                    return;
                }
                let target = target_law(model, depth_of(&shape) + 1);
                let distance = total_variation(&law, &target);
                assert!(
                    distance < EXACT,
                    "{rule:?} {draw:?} {shape:?} of {vocabulary} tokens, {name}: {distance}"
                );
                proven.set(proven.get() + 1);
            });
        }
    }
    proven.get()
}

fn depth_of(shape: &[u32]) -> usize {
    let tokens = (0..shape.len() as u32).collect();
    let tree = DraftTree::from_parents(tokens, shape.to_vec(), DrawKind::Iid).unwrap();
    tree.max_depth() as usize
}

fn prove_on_all_small_trees(rule: Rule) -> usize {
    let vocabularies: usize = (1..=4).map(|size| prove(rule, &DRAWS, 4, 3, size)).sum();
    vocabularies + prove(rule, &DRAWS, 5, 3, 3) + prove(rule, &DRAWS, 6, 3, 2)
}

#[test]
fn rejection_is_lossless_for_every_draw_on_every_small_tree() {
    let proven = prove_on_all_small_trees(Rule::Rejection);
    assert!(proven > 800, "{proven}");
}

#[test]
fn traversal_is_lossless_for_every_draw_on_every_small_tree() {
    let proven = prove_on_all_small_trees(Rule::Traversal);
    assert!(proven > 800, "{proven}");
}

#[test]
fn chain_rejection_is_lossless() {
    let proven = prove_on_all_small_trees(Rule::ChainRejection);
    assert!(proven > 300, "{proven}");
}

#[test]
fn block_verification_is_lossless() {
    let proven = prove_on_all_small_trees(Rule::Block);
    assert!(proven > 300, "{proven}");
}

/// The distance from the target's law for two children of the root under fixed distributions.
fn distance(
    p: &[f64],
    q: &[f64],
    draw: DrawKind,
    verification: impl Fn(&VerifyInput<'_>, &mut dyn Chance) -> Result<Verified, VerifyError>,
) -> f64 {
    let model = Model {
        vocabulary: p.len(),
        target: &|_| p.to_vec(),
        draft: &|_| q.to_vec(),
    };
    let law = output_law(&[NONE, 0, 0], draw, &model, &verification).unwrap();
    total_variation(&law, &target_law(&model, 2))
}

const P: [f64; 3] = [0.5, 0.3, 0.2];

#[test]
fn chosen_tokens_verified_as_if_sampled_are_caught() {
    // The likeliest two tokens are always drafted, and tested as if drawn from q.
    let wrong = |input: &VerifyInput<'_>, chance: &mut dyn Chance| {
        let tree = input
            .tree
            .clone()
            .with_draw(DrawKind::WithoutReplacement)
            .unwrap();
        let claim = VerifyInput::new(&tree, 3, input.target, Some(&P), input.position)?;
        verify(Rule::Rejection, &claim, chance)
    };
    let distance = distance(&P, &P, DrawKind::TopK, wrong);
    assert!((distance - 0.5).abs() < EXACT, "{distance}");
}

#[test]
fn siblings_tested_against_an_unchanged_target_are_caught() {
    let wrong = |input: &VerifyInput<'_>, chance: &mut dyn Chance| {
        let p = input.target_row(0);
        let q = input.draft_row(0).unwrap_or(p);
        for (ordinal, child) in (0..).zip(input.tree.children(0)) {
            let token = input.tree.tokens()[child] as usize;
            if chance.is_below(accept_draw(101, ordinal), p[token], q[token]) {
                return input.finish(child, input.target_row(child), chance);
            }
        }
        let rest: Vec<f64> = p.iter().zip(q).map(|(p, q)| (p - q).max(0.0)).collect();
        input.finish(0, &rest, chance)
    };
    let distance = distance(&P, &[0.2, 0.3, 0.5], DrawKind::Iid, wrong);
    // By hand: the first token has the law (.35, .39, .26).
    assert!((distance - 0.15).abs() < EXACT, "{distance}");
}

#[test]
fn a_residual_that_forgets_the_replacement_is_caught() {
    // Drawn without replacement, verified as independent draws.
    let wrong = |input: &VerifyInput<'_>, chance: &mut dyn Chance| {
        let tree = input.tree.clone().with_draw(DrawKind::Iid).unwrap();
        let claim = VerifyInput::new(&tree, 4, input.target, input.draft, input.position)?;
        verify(Rule::Rejection, &claim, chance)
    };
    let (p, q) = ([0.5, 0.3, 0.1, 0.1], [0.1, 0.1, 0.4, 0.4]);
    let distance = distance(&p, &q, DrawKind::WithoutReplacement, wrong);
    assert!(distance > 0.005, "{distance}");
}

#[test]
fn the_lossy_rules_are_lossy() {
    for rule in [
        Rule::LossyTypical(LossyTypical::default()),
        Rule::LossyThreshold(0.1),
    ] {
        let lossy = |input: &VerifyInput<'_>, chance: &mut dyn Chance| verify(rule, input, chance);
        let distance = distance(&P, &[0.2, 0.3, 0.5], DrawKind::Iid, lossy);
        // Every token passes; the likelier of two draws is kept: (.36, .39, .25).
        assert!((distance - 0.14).abs() < EXACT, "{rule:?}: {distance}");
    }
}

#[test]
fn greedy_has_the_law_of_decoding_at_temperature_zero() {
    for shape in (1..=4).flat_map(|nodes| shapes(nodes, 3)) {
        let sure = |context: &[u32]| {
            let p = scrambled(5, 3, context, false);
            let best = reduce::argmax(&p).unwrap();
            (0..3).map(|y| f64::from(y == best)).collect()
        };
        let model = Model {
            vocabulary: 3,
            target: &sure,
            draft: &|context| scrambled(6, 3, context, false),
        };
        for draw in DRAWS {
            let greedy = |input: &VerifyInput<'_>, chance: &mut dyn Chance| {
                verify(Rule::Greedy, input, chance)
            };
            let law = output_law(&shape, draw, &model, &greedy).unwrap();
            let target = target_law(&model, depth_of(&shape) + 1);
            assert!(law.iter().sum::<f64>() == 0.0 || total_variation(&law, &target) < EXACT);
        }
    }
}

/// The mean number of tokens that a rule keeps of a drafted chain of three.
fn mean_kept(rule: Rule, draw: DrawKind) -> f64 {
    let model = Model {
        vocabulary: 3,
        target: &|context| scrambled(1, 3, context, false),
        draft: &|context| scrambled(2, 3, context, false),
    };
    // Says 0 as often as tokens were kept, then 1: the law of the output is that of the number.
    let counting = |input: &VerifyInput<'_>, chance: &mut dyn Chance| {
        let path = verify(rule, input, chance)?.path;
        let tokens = (1..5).map(|i| u32::from(i >= path.len())).collect();
        Ok(Verified { path, tokens })
    };
    let law = output_law(&[NONE, 0, 1, 2], draw, &model, &counting).unwrap();
    // 1111, 0111, 0011, 0001 in base 3.
    let numbers = [40, 13, 4, 1].map(|index| law[index]);
    assert!((numbers.iter().sum::<f64>() - 1.0).abs() < EXACT);
    (0..)
        .zip(numbers)
        .map(|(kept, p)| f64::from(kept) * p)
        .sum()
}

#[test]
fn block_verification_keeps_at_least_as_many_tokens_as_the_chain_rule() {
    let [chain, block, traversal] = [Rule::ChainRejection, Rule::Block, Rule::Traversal]
        .map(|rule| mean_kept(rule, DrawKind::Iid));
    assert!(block > chain + 0.01, "{block} against {chain}");
    // On a chain the two are one rule.
    assert!((block - traversal).abs() < EXACT, "{block} {traversal}");
}

#[test]
fn a_token_without_probability_is_never_kept_not_even_at_u_0() {
    let tree = DraftTree::from_parents(vec![0, 1, 2], vec![NONE, 0, 0], DrawKind::TopK).unwrap();
    let target = [1.0, 0.0, 0.0].repeat(3);
    let draft = [0.0, 0.5, 0.5];
    for u in [0.0, 1.0 - 2f64.powi(-24)] {
        for draw in DRAWS {
            let tree = tree.clone().with_draw(draw).unwrap();
            let draft = (draw != DrawKind::TopK).then_some(draft.as_slice());
            let input = VerifyInput::new(&tree, 3, &target, draft, 0).unwrap();
            for rule in [
                Rule::Rejection,
                Rule::Traversal,
                Rule::Greedy,
                Rule::LossyThreshold(0.0),
            ] {
                let verified = verify(rule, &input, &mut FixedChance(u)).unwrap();
                assert_eq!(verified.tokens, [0], "{rule:?} {draw:?} {u}");
            }
        }
    }
    let chain = DraftTree::chain(0, &[1, 1]).unwrap();
    let input = VerifyInput::new(&chain, 3, &target, None, 0).unwrap();
    for rule in [Rule::Block, Rule::ChainRejection] {
        assert_eq!(
            verify(rule, &input, &mut FixedChance(0.0)).unwrap().tokens,
            [0]
        );
    }
}

#[test]
fn equal_distributions_keep_everything_at_every_u() {
    let p = [0.2, 0.0, 0.8].repeat(4);
    let tree = DraftTree::chain(0, &[2, 0, 2])
        .unwrap()
        .with_draw(DrawKind::Iid)
        .unwrap();
    let input = VerifyInput::new(&tree, 3, &p, Some(&p), 0).unwrap();
    for u in [0.0, 0.5, 1.0 - 2f64.powi(-24)] {
        for rule in [
            Rule::Rejection,
            Rule::ChainRejection,
            Rule::Block,
            Rule::Traversal,
        ] {
            let verified = verify(rule, &input, &mut FixedChance(u)).unwrap();
            assert_eq!(verified.accepted(), 3, "{rule:?} at {u}");
        }
    }
}

#[test]
fn rows_without_mass_and_impossible_drafts_are_errors() {
    let tree = DraftTree::chain(0, &[1]).unwrap();
    let nothing = VerifyInput::new(&tree, 2, &[0.0; 4], None, 0).unwrap();
    let sampled = tree.clone().with_draw(DrawKind::Iid).unwrap();
    let target = [0.5; 4];
    let undrawn = VerifyInput::new(&sampled, 2, &target, Some(&[1.0, 0.0]), 0).unwrap();
    for rule in [
        Rule::Rejection,
        Rule::ChainRejection,
        Rule::Block,
        Rule::Traversal,
    ] {
        let error = verify(rule, &nothing, &mut FixedChance(0.0));
        assert_eq!(error, Err(VerifyError::NoSupport { node: 0 }), "{rule:?}");
        let error = verify(rule, &undrawn, &mut FixedChance(0.0));
        assert_eq!(
            error,
            Err(VerifyError::ImpossibleDraft { node: 1, token: 1 }),
            "{rule:?}"
        );
    }
    let refused = verify(
        Rule::Rejection,
        &VerifyInput::new(&sampled, 2, &target, None, 0).unwrap(),
        &mut FixedChance(0.0),
    );
    assert!(matches!(
        refused,
        Err(VerifyError::Rule(RuleError::NoDraftProbabilities { .. }))
    ));
    assert!(VerifyInput::new(&tree, 2, &[0.5; 3], None, 0).is_err());
    assert!(VerifyInput::new(&tree, 1, &[1.0; 2], None, 0).is_err());
    assert!(VerifyInput::new(&sampled, 2, &target, Some(&[1.0]), 0).is_err());
}

/// Remembers what was asked.
struct Asked(PhiloxChance, Vec<Draw>);

impl Chance for Asked {
    fn is_below(&mut self, draw: Draw, bound: f64, scale: f64) -> bool {
        self.1.push(draw);
        self.0.is_below(draw, bound, scale)
    }
    fn sample(&mut self, draw: Draw, weights: &[f64]) -> Option<usize> {
        self.1.push(draw);
        self.0.sample(draw, weights)
    }
}

#[test]
fn no_random_number_is_used_twice_in_a_whole_sequence() {
    // Rules that look past what they keep would otherwise test a position again with the number that
    // threw its first draft away.
    for rule in [
        Rule::Rejection,
        Rule::ChainRejection,
        Rule::Block,
        Rule::Traversal,
    ] {
        let mut seen = HashSet::new();
        let mut chance = Asked(PhiloxChance::new(7), Vec::new());
        let mut position = 0;
        let tree = DraftTree::chain(0, &[0, 1, 1, 0]).unwrap();
        for step in 0..200 {
            let target: Vec<f64> = (0..5)
                .flat_map(|n| scrambled(step, 2, &[n], false))
                .collect();
            let input = VerifyInput::new(&tree, 2, &target, None, position).unwrap();
            position += verify(rule, &input, &mut chance).unwrap().tokens.len() as u32;
            for draw in chance.1.drain(..) {
                assert!(seen.insert(draw), "{rule:?} uses {draw:?} again");
            }
        }
    }
}

#[test]
fn the_longest_and_then_likeliest_path_is_typical() {
    // Node 3 is as deep as node 4 and its path likelier.
    let tree = DraftTree::from_parents(vec![0, 0, 1, 1, 0], vec![NONE, 0, 0, 1, 2], DrawKind::TopK)
        .unwrap();
    let mut target = [0.6, 0.4].repeat(5);
    target[6..8].copy_from_slice(&[0.5, 0.5]);
    let input = VerifyInput::new(&tree, 2, &target, None, 0).unwrap();
    let rule = Rule::LossyTypical(LossyTypical::default());
    let verified = verify(rule, &input, &mut FixedChance(0.9)).unwrap();
    // ln .6 + ln .4 against ln .4 + ln .6 would tie; the rows of nodes 1 and 2 are .6/.4.
    assert_eq!(
        (verified.path, verified.tokens),
        (vec![0, 1, 3], vec![0, 1, 1])
    );
    let none = verify(Rule::LossyThreshold(0.7), &input, &mut FixedChance(0.0)).unwrap();
    assert_eq!(none.accepted(), 0);
}

#[test]
fn log_probabilities_are_those_at_the_node_where_a_token_was_chosen() {
    let verified = Verified {
        path: vec![0, 2],
        tokens: vec![1, 0],
    };
    let logits = [0.0, 3f64.ln(), 0.0, 0.0, 1f64.ln(), 1f64.ln()];
    let target = [0.0, 1.0, 0.5, 0.5, 0.25, 0.75];
    let log_p = log_probabilities(&verified, 2, &logits, &target);
    assert!((log_p[0].raw - 0.75f64.ln()).abs() < EXACT && log_p[0].processed == 0.0);
    assert!((log_p[1].raw - 0.5f64.ln()).abs() < EXACT);
    assert!((log_p[1].processed - 0.25f64.ln()).abs() < EXACT);
    let top = top_log_probabilities(&[1.0, 2.0, 2.0], 2);
    assert_eq!((top[0].0, top[1].0, top.len()), (1, 2, 2));
}
