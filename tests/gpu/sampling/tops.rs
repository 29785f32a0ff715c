//! The likeliest tokens beside each kept one, against the twin.

use sunfleck::{
    reference::verify::top_log_probabilities,
    tree::DrawKind,
    verify::{
        Element, MAX_TOP_LOG_PROBABILITIES, Rule, Sampling, VerifyError, VerifyProblem,
        VerifyRequest,
    },
};

use super::twin::random_case;
use super::{Case, problem_for, run};
use crate::adapters::{TestGpu, on_every_adapter};
use crate::random::Random;

fn close(got: f32, expected: f64) -> bool {
    // Logits are below 20 in magnitude, and their maximum, sum and difference are rounded.
    (f64::from(got) - expected).abs() < 2e-5 || (expected < -85.0 && got < -85.0)
}

fn check(gpu: &TestGpu, vocabulary: usize, element: Element, top: u32, cases: &[Case]) -> usize {
    let mut problem = problem_for(cases, vocabulary as u32);
    problem.element = element;
    problem.row_stride = problem.row_stride.next_multiple_of(2) + 2;
    problem.top_log_probabilities = top;
    let (verdicts, _) = run(&gpu.gpu, &problem, cases);
    let mut kept = 0;
    for (case, verdict) in cases.iter().zip(verdicts) {
        let verdict = verdict.unwrap();
        let target = case.target(vocabulary);
        assert_eq!(verdict.top.len(), verdict.path.len(), "{}", gpu.name);
        for (node, list) in verdict.path.iter().zip(&verdict.top) {
            kept += 1;
            let node = *node as usize;
            let logits = &case.logits[node * vocabulary..][..vocabulary];
            let numbers = logits
                .iter()
                .filter(|logit| **logit > f32::NEG_INFINITY)
                .count();
            let wanted = top_log_probabilities(logits, (top as usize).min(numbers));
            let tokens: Vec<u32> = list.iter().map(|entry| entry.token).collect();
            let expected: Vec<u32> = wanted.iter().map(|entry| entry.0).collect();
            assert_eq!(
                tokens, expected,
                "{}: {element:?} of {vocabulary}",
                gpu.name
            );
            for (entry, (token, raw)) in list.iter().zip(wanted) {
                let processed = target[node * vocabulary + token as usize].ln();
                assert!(
                    close(entry.raw, raw),
                    "{}: {} for {raw}",
                    gpu.name,
                    entry.raw
                );
                assert!(
                    close(entry.processed, processed),
                    "{}: {} for {processed}",
                    gpu.name,
                    entry.processed
                );
            }
        }
        // The kept token is in its list wherever it is likely enough, with the same numbers.
        let own = (verdict.tokens.iter().zip(&verdict.top)).zip(&verdict.raw_log_probabilities);
        for ((token, list), raw) in own {
            if let Some(entry) = list.iter().find(|entry| entry.token == *token) {
                assert!(close(entry.raw, f64::from(*raw)), "{}", gpu.name);
            }
        }
    }
    kept - cases.len()
}

fn cases(vocabulary: usize, options: bool) -> Vec<Case> {
    let mut random = Random(vocabulary as u64);
    let draws = [DrawKind::TopK, DrawKind::Iid];
    (0..4)
        .map(|index| {
            let mut request = VerifyRequest::new(Rule::Rejection, draws[index % 2], index as u64);
            if options {
                request.sampling = Sampling {
                    temperature: 0.7,
                    top_k: 3,
                    presence_penalty: 0.2,
                    ..Sampling::default()
                };
                request.grammar = index == 3;
            }
            random_case(&mut random, vocabulary, request, 3 + 2 * index)
        })
        .collect()
}

#[test]
fn the_likeliest_tokens_beside_kept_ones_are_the_twins() {
    on_every_adapter(|gpu| {
        let mut accepted = 0;
        // Many ties: coarse logits of many tokens. Fewer tokens than asked for. Several blocks, the last not full.
        for (vocabulary, element, top) in [
            (70, Element::F32, 5),
            (3, Element::F32, MAX_TOP_LOG_PROBABILITIES),
            (2500, Element::F16, MAX_TOP_LOG_PROBABILITIES),
            (2049, Element::Bf16, 1),
        ] {
            for options in [false, true] {
                let cases = cases(vocabulary, options && vocabulary > 9);
                accepted += check(gpu, vocabulary, element, top, &cases);
            }
        }
        assert!(accepted > 2, "{}: few drafts were kept", gpu.name);
    });
}

#[test]
fn what_has_no_probability_is_in_no_list() {
    on_every_adapter(|gpu| {
        let mut case = cases(70, false).remove(0);
        let rows = case.logits.chunks_exact_mut(70);
        for (node, row) in rows.enumerate() {
            // Two or three numbers are left.
            for (y, logit) in row.iter_mut().enumerate() {
                if !(y == 4 || y == 9 || y == 60 + node % 2) {
                    *logit = [f32::NEG_INFINITY, f32::NAN][y % 2];
                }
            }
            row[9] = row[4];
        }
        case.request.rule = Rule::Greedy;
        let mut problem = problem_for(std::slice::from_ref(&case), 70);
        problem.top_log_probabilities = 8;
        let verdict = run(&gpu.gpu, &problem, &[case.clone()])
            .0
            .remove(0)
            .unwrap();
        for list in &verdict.top {
            let mut tokens: Vec<u32> = list.iter().map(|entry| entry.token).collect();
            let place = tokens.iter().position(|token| *token == 4).unwrap();
            assert_eq!(tokens[place + 1], 9, "{}: the lower id first", gpu.name);
            tokens.sort();
            assert!(
                tokens == [4, 9, 60] || tokens == [4, 9, 61],
                "{}: {tokens:?}",
                gpu.name
            );
            let mass: f64 = list.iter().map(|entry| f64::from(entry.raw).exp()).sum();
            assert!((mass - 1.0).abs() < 1e-5, "{}: {mass}", gpu.name);
        }
        let mut without = problem;
        without.top_log_probabilities = 0;
        let plain = run(&gpu.gpu, &without, &[case]).0.remove(0).unwrap();
        assert_eq!(plain.tokens, verdict.tokens);
        assert!(plain.top.is_empty());
    });
}

#[test]
fn more_than_a_list_holds_is_refused() {
    on_every_adapter(|gpu| {
        let mut problem = VerifyProblem::new(1, 4, 100);
        problem.top_log_probabilities = MAX_TOP_LOG_PROBABILITIES + 1;
        assert!(matches!(
            gpu.gpu.plan_verify(&problem),
            Err(VerifyError::Size {
                name: "top_log_probabilities",
                ..
            })
        ));
    });
}
