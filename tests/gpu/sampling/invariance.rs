//! A verdict depends on nothing but its own request, bit for bit.

use sunfleck::{
    gpu::{Capabilities, Gpu},
    tree::DrawKind,
    verify::{LossyTypical, Rule, Sampling, VerifyError, VerifyProblem, VerifyRequest},
};

use super::twin::random_case;
use super::{Case, problem_for, run};
use crate::adapters::{TestGpu, on_every_adapter};
use crate::random::Random;

/// Three blocks, the last of them not full.
const VOCABULARY: usize = 9_001;
const SMALL: usize = 300;

fn cases() -> Vec<Case> {
    let mut random = Random(77);
    let draws = [DrawKind::TopK, DrawKind::Iid, DrawKind::WithoutReplacement];
    let rules = [Rule::Rejection, Rule::Traversal];
    (0..6)
        .map(|index| {
            let mut request = VerifyRequest::new(rules[index % 2], draws[index % 3], index as u64);
            request.sampling = Sampling {
                top_p: 0.9,
                presence_penalty: 0.1,
                ..Sampling::default()
            };
            random_case(&mut random, VOCABULARY, request, 4 + index)
        })
        .collect()
}

/// Every rule with every draw.
fn all_rules() -> Vec<Case> {
    let mut random = Random(78);
    let rules = [
        Rule::Greedy,
        Rule::Rejection,
        Rule::ChainRejection,
        Rule::Block,
        Rule::Traversal,
        Rule::LossyTypical(LossyTypical::default()),
        Rule::LossyThreshold(0.01),
    ];
    let draws = [DrawKind::TopK, DrawKind::Iid, DrawKind::WithoutReplacement];
    let pairs = rules
        .iter()
        .flat_map(|rule| draws.map(|draw| (*rule, draw)));
    (0..)
        .zip(pairs)
        .map(|(index, (rule, draw))| {
            let mut request = VerifyRequest::new(rule, draw, index);
            request.sampling = Sampling {
                min_p: 0.01,
                repetition_penalty: 1.1,
                ..Sampling::default()
            };
            random_case(&mut random, SMALL, request, 3 + index as usize % 5)
        })
        .collect()
}

#[test]
fn batch_and_padding_change_no_bit() {
    on_every_adapter(|gpu| unchanged(gpu, VOCABULARY, &cases()));
}

#[test]
fn batch_and_padding_change_no_bit_of_any_rule() {
    on_every_adapter(|gpu| unchanged(gpu, SMALL, &all_rules()));
}

fn unchanged(gpu: &TestGpu, vocabulary: usize, cases: &[Case]) {
    {
        let mut together = problem_for(cases, vocabulary as u32);
        together.top_log_probabilities = 2;
        let (verdicts, _) = run(&gpu.gpu, &together, cases);
        for (case, verdict) in cases.iter().zip(&verdicts) {
            let verdict = verdict.as_ref().unwrap();
            let alone = std::slice::from_ref(case);
            let mut padded = problem_for(alone, vocabulary as u32);
            padded.top_log_probabilities = 2;
            padded.max_nodes += 21;
            padded.tree_stride = padded.max_nodes + 9;
            padded.row_stride += 58;
            padded.draft_rows = padded.draft_rows.max(1) + 1;
            padded.grammar = true; // of no request
            let (single, _) = run(&gpu.gpu, &padded, alone);
            let single = single[0].as_ref().unwrap();
            assert_eq!(single, verdict, "{}", gpu.name);
            let bits = |logs: &[f32]| logs.iter().map(|log| log.to_bits()).collect::<Vec<_>>();
            assert_eq!(
                bits(&single.log_probabilities),
                bits(&verdict.log_probabilities)
            );
        }
    }
}

#[test]
fn logits_walked_in_parts_give_the_same_verdicts() {
    on_every_adapter(|gpu| {
        let cases = cases();
        let mut problem = problem_for(&cases, VOCABULARY as u32);
        let (whole, _) = run(&gpu.gpu, &problem, &cases);
        let mut limited: Capabilities = gpu.gpu.capabilities().clone();
        // Other bindings still fit: 54 rows of 36,032 bytes do not.
        limited.limits.max_storage_buffer_binding_size = 33 * 36_032;
        let small = Gpu::with_capabilities(gpu.gpu.device(), gpu.gpu.queue(), limited.clone());
        problem.row_stride = 9_008; // 36,032 bytes: four rows end at a multiple of 256
        let plan = small.plan_verify(&problem).unwrap();
        assert!(plan.part_rows() == 32);
        let (parts, _) = run(&small, &problem, &cases);
        assert_eq!(parts, whole, "{}", gpu.name);

        // One row of 4 bytes more than a whole number of alignments fits, but no second part can begin.
        limited.limits.max_storage_buffer_binding_size = 1028;
        let tiny = Gpu::with_capabilities(gpu.gpu.device(), gpu.gpu.queue(), limited);
        let odd = VerifyProblem::new(1, 4, 257);
        assert!(matches!(
            tiny.plan_verify(&odd),
            Err(VerifyError::Parts { .. })
        ));
    });
}
