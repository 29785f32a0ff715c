//! A case bound to buffers: verification, commit and the end of the step.

use sunfleck::{
    attention::Element,
    cache::{CacheShape, Commit, KvCache},
    gpu::{BufferView, Gpu},
    tree::{DraftTree, NONE},
    verify::{Verdict, VerifyIo, VerifyProblem, VerifyRequest},
    wgpu,
};

use crate::{
    cases::{Case, Shape},
    random::numbers,
    timing::Work,
};

/// SmolLM2-135M's cache: what a commit moves.
const LAYERS: u32 = 30;
const KV_HEADS: u32 = 3;
const HEAD_DIM: u32 = 64;
/// Tokens before the root.
const PAST: u32 = 128;

/// What is timed, and the outcome to look at.
pub struct Bound {
    pub work: Work,
    outcome: wgpu::Buffer,
    nodes: u32,
}

/// Standard deviation of the logits of tokens that were not drafted.
const SPREAD: f32 = 2.0;

/// `count` numbers of mean 0 and the deviation [`SPREAD`], normally distributed, as logits are about (Box and
/// Muller 1958).
fn normals(seed: u32, count: usize) -> Vec<f32> {
    let width = 12f32.sqrt();
    let unit = |number: f32| number / width + 0.5; // in 0..1
    let numbers = numbers(seed, count.next_multiple_of(2));
    let mut normals = Vec::with_capacity(numbers.len());
    for pair in numbers.chunks_exact(2) {
        let radius = SPREAD * (-2.0 * unit(pair[0]).max(1e-7).ln()).sqrt();
        let (sine, cosine) = (std::f32::consts::TAU * unit(pair[1])).sin_cos();
        normals.extend([radius * cosine, radius * sine]);
    }
    normals.truncate(count);
    normals
}

/// Rows of logits whose drafted tokens have a probability of about 0.7 for a first child, as drafts that pay
/// have; the rest is spread over the whole vocabulary.
fn logits(case: &Case, tokens: &[u32], seed: u32) -> Vec<f32> {
    let (vocabulary, nodes) = (case.vocabulary as usize, case.nodes as usize);
    let mut logits = normals(seed, vocabulary * nodes);
    let temperature = case.sampling.temperature;
    for node in (1..case.nodes).rev() {
        let parent = case.parent(node) as usize;
        let row = &mut logits[parent * vocabulary..][..vocabulary];
        let sum: f64 = row.iter().map(|x| f64::from(x / temperature).exp()).sum();
        // The first child, which is written last, is the likeliest.
        let first = node == 1 || case.parent(node - 1) != case.parent(node);
        let share = if first { 2.3f64 } else { 0.2 };
        row[tokens[node as usize] as usize] = temperature * (share * sum).ln() as f32;
    }
    logits
}

impl Bound {
    /// # Panics
    /// When the device refuses a buffer or kernel.
    pub fn new(gpu: &Gpu, case: &Case) -> Self {
        let n = case.nodes;
        let tokens: Vec<u32> = (0..n).map(|node| node * 37 % case.vocabulary).collect();
        let parents = (0..n).map(|node| match node {
            0 => NONE,
            _ => case.parent(node),
        });
        let tree =
            DraftTree::from_parents(tokens.clone(), parents.collect(), case.draw).expect("a tree");
        let mut problem = VerifyProblem::new(1, n, case.vocabulary);
        problem.penalties = case.has_penalty();
        let rows = tree.q_rows().iter().skip(1).max().map_or(0, |row| row + 1);
        problem.draft_rows = if case.is_drawn() { rows } else { 0 };

        let buffer = |name, values: &[f32]| gpu.storage_with(name, values).expect(name);
        let values = logits(case, &tokens, 1);
        let target = buffer("logits", &values);
        let mut draft = vec![0f32; 1];
        if case.is_drawn() {
            let noise = normals(2, values.len());
            let noisy: Vec<f32> = values.iter().zip(noise).map(|(x, y)| x + 0.2 * y).collect();
            let vocabulary = case.vocabulary as usize;
            draft = vec![0.0; rows as usize * vocabulary];
            for node in 1..n as usize {
                let (row, parent) = (
                    tree.q_rows()[node] as usize,
                    case.parent(node as u32) as usize,
                );
                let from = &noisy[parent * vocabulary..][..vocabulary];
                draft[row * vocabulary..][..vocabulary].copy_from_slice(from);
            }
        }
        let draft = buffer("draft", &draft);
        let blob = tree.blob(n as usize).expect("a blob");
        let blob = gpu.storage_with("tree", &blob).expect("a buffer");
        // That of the verification moves on at the end of a step, that of the commit stays in the cache.
        let place = [[n, PAST, 0, 0]];
        let lengths = gpu.storage_with("lengths", &place).expect("a buffer");
        let stays = gpu.storage_with("lengths", &place).expect("a buffer");
        let masks = vec![0x1010u32; problem.mask_words() as usize];
        let masks = gpu.storage_with("masks", &masks).expect("a buffer");
        let plan = gpu.plan_verify(&problem).expect("a plan");
        let prepared = pollster::block_on(plan.prepare()).expect("kernels");
        let io = VerifyIo {
            logits: (&target).into(),
            draft: case.is_drawn().then_some(BufferView::whole(&draft)),
            tree: (&blob).into(),
            lengths: (&lengths).into(),
            masks: case.has_penalty().then_some(BufferView::whole(&masks)),
        };
        let verify = prepared.bind(&io).expect("arguments");
        let mut request = VerifyRequest::new(case.rule, case.draw, 7);
        request.sampling = case.sampling;
        request.drafting = case.sampling;
        verify.set_request(0, &request).expect("a request");

        let shape = CacheShape::new(LAYERS, KV_HEADS, HEAD_DIM, Element::F32);
        let cache = KvCache::contiguous(gpu, shape, 1, PAST + n).expect("a cache");
        let commit = Commit::new(gpu, &cache, (&stays).into(), verify.outcome(), 0, n);
        let commit = pollster::block_on(commit).expect("a commit");
        let moves = case.shape == Shape::Tree;
        let outcome = verify.outcome().clone();
        let work = Work::new(move |pass, _| {
            verify.encode(pass);
            if moves {
                commit.encode(pass);
            }
            verify.encode_finalise(pass);
        });
        Self {
            work,
            outcome,
            nodes: n,
        }
    }

    /// Tokens that the last verification gave; an error of it as text.
    pub fn tokens(&self, gpu: &Gpu) -> Result<usize, String> {
        let words: Vec<u32> = pollster::block_on(gpu.read_buffer(&self.outcome))
            .map_err(|error| error.to_string())?;
        Verdict::from_words(&words, self.nodes)
            .map(|verdict| verdict.tokens.len())
            .map_err(|error| error.to_string())
    }
}

/// Bytes of logits that a verification has to read at least once.
pub fn logit_bytes(case: &Case) -> u64 {
    let parents = (1..case.nodes).map(|node| case.parent(node));
    let drafts = match case.is_drawn() {
        true => parents.collect::<std::collections::HashSet<_>>().len() as u64,
        false => 0,
    };
    (u64::from(case.nodes) + drafts) * u64::from(case.vocabulary) * 4
}
