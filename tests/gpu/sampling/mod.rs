//! Verification by sampling against its twin, and the laws of its output.

mod blobs;
mod cuts;
mod edges;
mod invariance;
mod laws;
mod run_ahead;
mod tops;
mod twin;

use sunfleck::{
    gpu::{BufferView, Gpu},
    reference::verify::processing::distribution,
    tree::{DraftTree, DrawKind, blob_words},
    verify::{Element, OutcomeError, Verdict, VerifyIo, VerifyProblem, VerifyRequest},
};

use crate::random::Random;

/// One request of a batch with all that it brings.
#[derive(Clone)]
pub struct Case {
    pub request: VerifyRequest,
    pub tree: DraftTree,
    pub logits: Vec<f32>, // [node, vocabulary]
    pub draft: Vec<f32>,  // [q_row, vocabulary]; empty where no chance was involved
    pub position: u32,
    pub occurred: Vec<u32>,
    pub grammar: Vec<Vec<u32>>, // [node][mask word]; empty without one
}

/// Bits of `element` for a value, low bits first; f32 takes the whole word.
fn stored(element: Element, values: &[f32]) -> Vec<u8> {
    match element {
        Element::F32 => bytemuck::cast_slice(values).to_vec(),
        Element::F16 => {
            let halves: Vec<u16> = values
                .iter()
                .map(|v| half::f16::from_f32(*v).to_bits())
                .collect();
            bytemuck::cast_slice(&halves).to_vec()
        }
        Element::Bf16 => {
            let halves: Vec<u16> = values
                .iter()
                .map(|v| half::bf16::from_f32(*v).to_bits())
                .collect();
            bytemuck::cast_slice(&halves).to_vec()
        }
        other => panic!("no storage for {other:?}"),
    }
}

/// A problem that holds all cases.
pub fn problem_for(cases: &[Case], vocabulary: u32) -> VerifyProblem {
    let nodes = cases.iter().map(|case| case.tree.len()).max().unwrap();
    let mut problem = VerifyProblem::new(cases.len() as u32, nodes as u32, vocabulary);
    let rows = cases
        .iter()
        .map(|case| case.draft.len() / vocabulary as usize)
        .max()
        .unwrap();
    // A tree of a root alone needs none, but its draw asks for them.
    let sampled = cases.iter().any(|case| case.request.draw != DrawKind::TopK);
    problem.draft_rows = (rows as u32).max(u32::from(sampled));
    problem.penalties = cases.iter().any(|case| !case.occurred.is_empty());
    problem.grammar = cases.iter().any(|case| !case.grammar.is_empty());
    problem
}

/// Verifies a batch; the verdicts, and where the lengths stand afterwards.
pub fn run(
    gpu: &Gpu,
    problem: &VerifyProblem,
    cases: &[Case],
) -> (Vec<Result<Verdict, OutcomeError>>, Vec<u32>) {
    let (v, stride) = (problem.vocabulary as usize, problem.row_stride as usize);
    let n = problem.max_nodes as usize;
    let room = problem.tree_stride as usize;
    // Padding holds what must not be read: a huge logit.
    let mut logits = vec![999f32; cases.len() * n * stride];
    let mut draft = vec![999f32; cases.len() * problem.draft_rows as usize * stride];
    let mut blobs = Vec::new();
    let mut lengths = Vec::new();
    let mask_words = problem.mask_words() as usize;
    let mask_rows = problem.mask_rows() as usize;
    let mut masks = vec![0u32; cases.len() * mask_rows * mask_words];
    for (index, case) in cases.iter().enumerate() {
        for (row, values) in case.logits.chunks_exact(v).enumerate() {
            logits[(index * n + row) * stride..][..v].copy_from_slice(values);
        }
        for (row, values) in case.draft.chunks_exact(v).enumerate() {
            let at = (index * problem.draft_rows as usize + row) * stride;
            draft[at..][..v].copy_from_slice(values);
        }
        blobs.extend(case.tree.blob(room).unwrap());
        lengths.push([case.tree.len() as u32, case.position, 0, 0]);
        for &token in &case.occurred {
            masks[index * mask_rows * mask_words + token as usize / 32] |= 1 << (token % 32);
        }
        for (node, mask) in case.grammar.iter().enumerate() {
            let at = (index * mask_rows + 1 + node) * mask_words;
            masks[at..at + mask_words].copy_from_slice(mask);
        }
    }
    assert_eq!(blobs.len(), cases.len() * blob_words(room));
    let logits = gpu
        .storage_with("logits", &stored(problem.element, &logits))
        .unwrap();
    let draft = gpu
        .storage_with("draft", &stored(problem.element, &draft))
        .unwrap();
    let tree = gpu.storage_with("tree", &blobs).unwrap();
    let lengths = gpu.storage_with("lengths", &lengths).unwrap();
    let masks = gpu.storage_with("masks", &masks).unwrap();
    let prepared = pollster::block_on(gpu.plan_verify(problem).unwrap().prepare()).unwrap();
    let verify = prepared
        .bind(&VerifyIo {
            logits: (&logits).into(),
            draft: (problem.draft_rows > 0).then_some(BufferView::whole(&draft)),
            tree: (&tree).into(),
            lengths: (&lengths).into(),
            masks: (mask_rows > 0).then_some(BufferView::whole(&masks)),
        })
        .unwrap();
    for (index, case) in (0..).zip(cases) {
        verify.set_request(index, &case.request).unwrap();
    }
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        verify.encode(&mut pass);
        verify.encode_finalise(&mut pass);
    }
    gpu.queue().submit([encoder.finish()]);
    let words: Vec<u32> = pollster::block_on(gpu.read_buffer(verify.outcome())).unwrap();
    let lengths: Vec<u32> = pollster::block_on(gpu.read_buffer(&lengths)).unwrap();
    let verdicts = words
        .chunks_exact(problem.outcome_words())
        .map(|words| problem.verdict(words))
        .collect();
    (verdicts, lengths.into_iter().skip(1).step_by(4).collect())
}

impl Case {
    /// The distribution after each node as the twin has it, `[node, vocabulary]`.
    pub fn target(&self, vocabulary: usize) -> Vec<f64> {
        (0..self.tree.len())
            .flat_map(|node| {
                let row = &self.logits[node * vocabulary..][..vocabulary];
                self.row(row, node, &self.request.sampling)
            })
            .collect()
    }

    /// The distributions from which children were drawn, `[q_row, vocabulary]`.
    pub fn drafted(&self, vocabulary: usize) -> Vec<f64> {
        let rows = self.draft.chunks_exact(vocabulary).enumerate();
        rows.flat_map(|(row, logits)| {
            let child = self.tree.q_rows().iter().position(|&r| r == row as u32);
            let node = child.map_or(0, |child| self.tree.parents()[child] as usize);
            self.row(logits, node, &self.request.drafting)
        })
        .collect()
    }

    fn row(&self, logits: &[f32], node: usize, sampling: &sunfleck::verify::Sampling) -> Vec<f64> {
        let path = self.tree.path_to(node).unwrap();
        let mut occurred = self.occurred.clone();
        occurred.extend(path.iter().map(|&n| self.tree.tokens()[n as usize]));
        let grammar = self.grammar.get(node).filter(|_| self.request.grammar);
        distribution(logits, sampling, &occurred, grammar.map(Vec::as_slice))
    }
}

/// An index drawn from `weights`.
pub fn draw_from(random: &mut Random, weights: &[f64]) -> usize {
    let mut left = random.unit() * weights.iter().sum::<f64>();
    for (index, &weight) in weights.iter().enumerate() {
        left -= weight;
        if weight > 0.0 && left < 0.0 {
            return index;
        }
    }
    weights.iter().rposition(|&weight| weight > 0.0).unwrap()
}
