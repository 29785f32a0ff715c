//! A verdict depends on nothing but its own request, bit for bit.

use sunfleck::{
    gpu::{Capabilities, Gpu},
    tree::{DraftTree, DrawKind, NONE},
    verify::{
        LossyTypical, OutcomeError, Rule, Sampling, VerifyError, VerifyProblem, VerifyRequest,
    },
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

/// Requests that look at draft logits: chains and trees, by every rule that does.
fn drawn_cases() -> Vec<Case> {
    let mut random = Random(79);
    let pairs = [
        (Rule::Rejection, DrawKind::Iid),
        (Rule::Rejection, DrawKind::WithoutReplacement),
        (Rule::ChainRejection, DrawKind::Iid),
        (Rule::Block, DrawKind::Iid),
        (Rule::Traversal, DrawKind::WithoutReplacement),
        (Rule::Traversal, DrawKind::Iid),
        (Rule::Rejection, DrawKind::TopK), // none: belongs to the first part
        (Rule::Block, DrawKind::WithoutReplacement),
    ];
    (0..)
        .zip(pairs)
        .map(|(index, (rule, draw))| {
            let mut request = VerifyRequest::new(rule, draw, 400 + index);
            request.sampling.top_k = [0, 3][index as usize % 2];
            request.drafting.top_p = [1.0, 0.9][index as usize / 2 % 2];
            request.sampling.repetition_penalty = 1.2;
            random_case(&mut random, SMALL, request, 6 + index as usize % 4)
        })
        .collect()
}

#[test]
fn draft_logits_walked_in_parts_give_the_same_verdicts() {
    on_every_adapter(|gpu| {
        let cases = drawn_cases();
        let mut problem = problem_for(&cases, SMALL as u32);
        problem.row_stride = 5_120; // 20,480 bytes: larger than scratch of a row, and a multiple of 256
        let (whole, _) = run(&gpu.gpu, &problem, &cases);
        assert!(whole.iter().all(Result::is_ok), "{}", gpu.name);
        // Parts that end in the middle of trees.
        for rows in [30, 7] {
            let mut limited: Capabilities = gpu.gpu.capabilities().clone();
            limited.limits.max_storage_buffer_binding_size = rows * 20_480;
            let small = Gpu::with_capabilities(gpu.gpu.device(), gpu.gpu.queue(), limited);
            let plan = small.plan_verify(&problem).unwrap();
            assert_eq!((plan.part_rows(), plan.part_draft_rows()), (rows, rows));
            let (parts, _) = run(&small, &problem, &cases);
            assert_eq!(parts, whole, "{}: {rows} rows", gpu.name);
        }
    });
}

#[test]
fn draft_rows_in_parts_that_do_not_ascend_are_flagged_where_order_matters() {
    on_every_adapter(|gpu| {
        let mut random = Random(80);
        let request = VerifyRequest::new(Rule::Traversal, DrawKind::Iid, 5);
        let mut case = random_case(&mut random, SMALL, request, 2);
        let chain = DraftTree::chain(1, &[2, 3]).unwrap();
        let chain = chain.with_draw(DrawKind::Iid).unwrap();
        // The root's child was drawn from row 1, its own child from row 0.
        case.tree = chain.with_q_rows(vec![NONE, 1, 0]).unwrap();
        case.logits = random.normals(3 * SMALL);
        case.draft = random.normals(2 * SMALL);
        let cases = [case];
        let mut problem = problem_for(&cases, SMALL as u32);
        problem.row_stride = 5_120;
        let (whole, _) = run(&gpu.gpu, &problem, &cases);
        assert!(whole[0].is_ok(), "{}", gpu.name);
        let mut limited: Capabilities = gpu.gpu.capabilities().clone();
        limited.limits.max_storage_buffer_binding_size = 20_480;
        let small = Gpu::with_capabilities(gpu.gpu.device(), gpu.gpu.queue(), limited);
        let (parts, _) = run(&small, &problem, &cases);
        assert_eq!(parts[0], Err(OutcomeError::ImpossibleDraft), "{}", gpu.name);
        // Rejection tests each child by its parent's rows alone.
        let mut rejected = cases[0].clone();
        rejected.request = VerifyRequest::new(Rule::Rejection, DrawKind::Iid, 5);
        let rejected = [rejected];
        let (parts, _) = run(&small, &problem, &rejected);
        let (whole, _) = run(&gpu.gpu, &problem, &rejected);
        assert_eq!(parts, whole, "{}", gpu.name);
    });
}
