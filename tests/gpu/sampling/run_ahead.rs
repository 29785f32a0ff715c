//! Steps with no host between them: draft, model, verification, commit and the next step's sizes, several times in
//! one submission, against the same steps one at a time with the host in between.

use sunfleck::{
    attention::{Attention, AttentionProblem, CacheIo, Element, Mask, TensorLayout},
    cache::{Append, AppendIo, AppendShape, CacheShape, Commit, KvCache, RopePairs, RopeShape},
    gpu::BufferView,
    ops::{DispatchSizes, Embed, MatrixWriter, StepBuffer, WeightType, Workgroups},
    tree::{BlobField, DraftTree, DrawKind, FixedTree, FixedTreeIo, field_offset},
    verify::{
        OutcomeError, RingError, Rule, Sampling, Verify, VerifyError, VerifyIo, VerifyProblem,
        VerifyRequest,
    },
    wgpu::{Buffer, ComputePass},
};

use crate::adapters::{TestGpu, on_every_adapter};
use crate::random::Random;

const VOCABULARY: u32 = 64;
const STRIDE: u32 = 64; // so that the depths begin where a binding may
const NODES: u32 = 8;
const HEADS: u32 = 2;
const DIM: u32 = 32;
const WIDTH: u32 = (HEADS + 2) * DIM;
const CAPACITY: u32 = 320;
const PAST: u32 = 240; // spans of keys are 256: there is a second one soon

/// A model whose logits, keys and values depend on a token alone, with a drafter that knows it a little.
struct Model {
    step: StepBuffer,
    blob: Buffer,
    cache: KvCache,
    output: Buffer,
    draft: Embed,
    fixed: FixedTree,
    logits: Embed,
    qkv: Embed,
    append: Append,
    attention: Attention,
    verify: Verify,
    commit: Commit,
    logits_buffer: Buffer,
}

impl Model {
    fn new(gpu: &TestGpu, table: &[f32], request: &VerifyRequest) -> Self {
        pollster::block_on(Self::build(gpu, table, request))
    }

    async fn build(gpu: &TestGpu, table: &[f32], request: &VerifyRequest) -> Self {
        let gpu = &gpu.gpu;
        let mut random = Random(8);
        let storage = |label: &str, words: u32| gpu.storage(label, u64::from(words) * 4).unwrap();
        let step = StepBuffer::new(gpu, 1, PAST).unwrap();
        let blob = DraftTree::root_only(3).blob(STRIDE as usize).unwrap();
        let blob = gpu.storage_with("tree", &blob).unwrap();
        let matrix = |values: &[f32], columns| {
            let mut writer =
                MatrixWriter::new(gpu, "table", WeightType::F32, VOCABULARY, columns).unwrap();
            writer.push_rows(bytemuck::cast_slice(values));
            writer.finish()
        };
        let noisy: Vec<f32> = (table.iter().zip(random.normals(table.len())))
            .map(|(logit, noise)| logit + noise)
            .collect();
        // The second head says the same whatever the root.
        let heads = random.normals(2 * VOCABULARY as usize);
        let heads = gpu.storage_with("heads", &heads).unwrap();
        let tokens = BufferView::range(&blob, 0, u64::from(STRIDE) * 4);
        let noisy = matrix(&noisy, VOCABULARY);
        let draft = Embed::new(gpu, &noisy, &step, tokens, (&heads).into(), VOCABULARY).await;
        let paths: [&[usize]; 6] = [&[0], &[1], &[2], &[0, 0], &[0, 1], &[1, 0]];
        let io = FixedTreeIo {
            logits: (&heads).into(),
            tree: (&blob).into(),
            lengths: BufferView::whole(step.buffer()),
            map: None,
        };
        let fixed = FixedTree::new(gpu, 1, &paths, 2, VOCABULARY, STRIDE, &io).await;
        let logits_buffer = storage("logits", NODES * VOCABULARY);
        let table = matrix(table, VOCABULARY);
        let y = (&logits_buffer).into();
        let logits = Embed::new(gpu, &table, &step, tokens, y, VOCABULARY).await;
        let x = storage("x", NODES * WIDTH);
        let values = matrix(&random.normals((VOCABULARY * WIDTH) as usize), WIDTH);
        let qkv = Embed::new(gpu, &values, &step, tokens, (&x).into(), WIDTH).await;

        let shape = CacheShape::new(1, 1, DIM, Element::F32);
        let cache = KvCache::contiguous(gpu, shape, 1, CAPACITY).unwrap();
        let rope = RopeShape {
            rotated: DIM,
            pairs: RopePairs::Halves,
        };
        let turns = rope.table(CAPACITY, 10_000.0, 1.0);
        let turns = gpu.storage_with("turns", turns.as_flattened()).unwrap();
        let sequences = BufferView::whole(step.buffer());
        let depth = field_offset(BlobField::Depth, STRIDE as usize) as u64 * 4;
        let io = AppendIo {
            sequences,
            depth: BufferView::range(&blob, depth, u64::from(STRIDE) * 4),
            table: (&turns).into(),
            x: (&x).into(),
        };
        let rows = AppendShape {
            query_heads: HEADS,
            rope,
            row_stride: 0,
            depth_stride: 0,
            max_rows: NODES,
        };
        let append = Append::new(gpu, &cache, 0, &rows, &io).await;
        let mut problem =
            AttentionProblem::new(HEADS, 1, DIM, NODES, CAPACITY).with_cache(cache.layout());
        problem.query = TensorLayout {
            token_stride: WIDTH,
            ..problem.query
        };
        problem.mask = Mask::Tree { max_nodes: STRIDE };
        problem.invariant = true;
        let prepared = gpu
            .plan_attention(&problem)
            .unwrap()
            .prepare()
            .await
            .unwrap();
        let output = storage("output", NODES * HEADS * DIM);
        let io = CacheIo {
            query: (&x).into(),
            output: (&output).into(),
            lengths: sequences,
            lse: None,
            bias: None,
            tree: Some((&blob).into()),
        };
        let workspace = prepared.workspace().unwrap();
        let attention = prepared.bind_cache(&workspace, &cache, 0, &io).unwrap();
        let mut problem = VerifyProblem::new(1, NODES, VOCABULARY);
        problem.tree_stride = STRIDE;
        let prepared = gpu.plan_verify(&problem).unwrap().prepare().await.unwrap();
        let verify = prepared
            .bind(&verify_io(&logits_buffer, &blob, &step))
            .unwrap();
        verify.set_request(0, request).unwrap();
        let words = problem.outcome_words() as u32;
        let commit = Commit::new(gpu, &cache, sequences, verify.outcome(), words, NODES).await;
        Self {
            draft: draft.unwrap(),
            fixed: fixed.unwrap(),
            logits: logits.unwrap(),
            qkv: qkv.unwrap(),
            append: append.unwrap(),
            commit: commit.unwrap(),
            step,
            blob,
            cache,
            output,
            attention,
            verify,
            logits_buffer,
        }
    }

    /// Records a step up to where its keys are needed, and the rest of it after `attend`.
    fn encode(&self, pass: &mut ComputePass<'_>, attend: impl FnOnce(&mut ComputePass<'_>)) {
        self.draft.encode(pass, 1);
        self.fixed.encode(pass);
        self.logits.encode(pass, NODES);
        self.qkv.encode(pass, NODES);
        self.append.encode(pass, NODES);
        attend(pass);
        self.verify.encode(pass);
        self.commit.encode(pass);
    }

    /// What is left on the GPU: lengths, keys and values, and the last output.
    fn state(&self, gpu: &TestGpu) -> [Vec<u32>; 4] {
        let part = &self.cache.parts(0)[0];
        [
            gpu.read(self.step.buffer())[..2].to_vec(),
            gpu.read(part.keys.buffer),
            gpu.read(part.values.buffer),
            gpu.read(&self.output),
        ]
    }
}

fn verify_io<'a>(logits: &'a Buffer, blob: &'a Buffer, step: &'a StepBuffer) -> VerifyIo<'a> {
    VerifyIo {
        logits: logits.into(),
        draft: None,
        tree: blob.into(),
        lengths: BufferView::whole(step.buffer()),
        masks: None,
    }
}

fn table() -> Vec<f32> {
    let logits = Random(4).normals((VOCABULARY * VOCABULARY) as usize);
    logits.into_iter().map(|logit| 2.5 * logit).collect()
}

#[test]
fn steps_in_one_submission_are_the_steps_one_at_a_time() {
    on_every_adapter(|gpu| {
        let mut sampled = VerifyRequest::new(Rule::Rejection, DrawKind::TopK, 5);
        sampled.sampling = Sampling {
            temperature: 0.8,
            top_k: 20,
            ..Sampling::default()
        };
        let greedy = VerifyRequest::new(Rule::Greedy, DrawKind::TopK, 5);
        for (request, rounds) in [(sampled, 5), (greedy, 5)] {
            const STEPS: usize = 4; // in a submission
            // The host reads each outcome, and says where the next step begins.
            let one = Model::new(gpu, &table(), &request);
            let (mut text, mut past) = (Vec::new(), PAST);
            for _ in 0..rounds * STEPS {
                gpu.run(|pass| {
                    one.encode(pass, |pass| one.attention.encode(pass, NODES, past + NODES));
                    one.verify.encode_finalise(pass);
                });
                let words: Vec<u32> = gpu.read(one.verify.outcome());
                let verdict = one.verify.problem().verdict(&words).unwrap();
                past += verdict.tokens.len() as u32;
                let root = verdict.tokens.last().unwrap();
                gpu.gpu
                    .queue()
                    .write_buffer(&one.blob, 0, bytemuck::bytes_of(root));
                text.extend(verdict.tokens);
            }
            assert!(past > 256, "no second span");
            assert!(
                text.len() > rounds * STEPS,
                "{}: no draft was kept",
                gpu.name
            );

            // The host records, and reads when it likes.
            let all = Model::new(gpu, &table(), &request);
            let sizes = all.attention.sizes(NODES);
            let sizes = DispatchSizes::new(&gpu.gpu, &sizes, PAST + NODES).unwrap();
            assert_eq!(sizes.rules().len(), 1);
            let io = verify_io(&all.logits_buffer, &all.blob, &all.step);
            let advance = all.verify.advance(&io, 64, NODES, &sizes);
            let advance = pollster::block_on(advance).unwrap();
            let mut reader = advance.reader();
            let mut late = Vec::new();
            for round in 0..rounds {
                gpu.run(|pass| {
                    for _ in 0..STEPS {
                        all.encode(pass, |pass| {
                            all.attention.encode_sized(pass, NODES, &sizes, 0).unwrap();
                        });
                        advance.encode(pass);
                    }
                });
                // Not in every round.
                if round % 2 == 1 || round + 1 == rounds {
                    let new = pollster::block_on(advance.read(&gpu.gpu, &mut reader)).unwrap();
                    let new = new.into_iter().next().unwrap().unwrap();
                    assert_eq!(new.steps as usize, (round + 1) * STEPS);
                    late.extend(new.tokens);
                    assert_eq!(new.position, PAST + late.len() as u32, "{}", gpu.name);
                }
            }
            assert_eq!(late, text, "{}: {:?}", gpu.name, request.rule);
            for (one, all) in one.state(gpu).iter().zip(all.state(gpu)) {
                assert!(*one == all, "{}: {:?}", gpu.name, request.rule);
            }
            let groups: Vec<u32> = gpu.read(sizes.buffer());
            let expected = sizes.rules()[0].map(|axis| axis.of(past + NODES));
            assert_eq!(groups, expected, "{}", gpu.name);
            assert_eq!(groups[1], 2, "{}: spans", gpu.name);
        }
    });
}

#[test]
fn a_request_that_can_not_be_verified_stops_and_says_so_after_its_tokens() {
    on_every_adapter(|gpu| {
        // 3, 5, 7, and after 7 nothing.
        let mut table = table();
        let row = |token: usize| token * VOCABULARY as usize;
        table[row(3) + 5] = 99.0;
        table[row(5) + 7] = 99.0;
        table[row(7)..row(8)].fill(f32::NAN);
        let greedy = VerifyRequest::new(Rule::Greedy, DrawKind::TopK, 1);
        let model = Model::new(gpu, &table, &greedy);
        let sizes = DispatchSizes::new(&gpu.gpu, &[], 0).unwrap();
        let io = verify_io(&model.logits_buffer, &model.blob, &model.step);
        let advance = pollster::block_on(model.verify.advance(&io, 8, NODES, &sizes)).unwrap();
        gpu.run(|pass| {
            for _ in 0..4 {
                model.encode(pass, |pass| model.attention.encode(pass, NODES, CAPACITY));
                advance.encode(pass);
            }
        });
        let mut reader = advance.reader();
        let mut read = || {
            let read = pollster::block_on(advance.read(&gpu.gpu, &mut reader)).unwrap();
            read.into_iter().next().unwrap()
        };
        let got = read().unwrap();
        assert_eq!(got.tokens, [5, 7], "{}", gpu.name);
        assert_eq!(got.position, PAST + got.tokens.len() as u32, "{}", gpu.name);
        assert_eq!(
            read(),
            Err(RingError::Outcome(OutcomeError::NoArgmax)),
            "{}",
            gpu.name
        );
        let lengths: Vec<u32> = gpu.read(model.step.buffer());
        assert_eq!(lengths[1], got.position, "{}", gpu.name);
    });
}

#[test]
fn requests_of_a_batch_advance_each_by_its_own_outcome() {
    on_every_adapter(|gpu| {
        let (batch, nodes, vocabulary) = (5, 4, 9);
        let mut random = Random(6);
        let logits = random.normals((batch * nodes * vocabulary) as usize);
        let logits = gpu.gpu.storage_with("logits", &logits).unwrap();
        let good = DraftTree::merge(1, &[[2, 3], [4, 4]], 4).unwrap();
        let good = good.blob(nodes as usize).unwrap();
        let mut blobs = good.repeat(batch as usize);
        // The third request's tree is damaged.
        blobs[2 * good.len() + nodes as usize + 1] = 3;
        let lengths: Vec<[u32; 4]> = (0..batch).map(|i| [nodes, 1000 * i, 0, 0]).collect();
        let problem = VerifyProblem::new(batch, nodes, vocabulary);
        let prepared = gpu.gpu.plan_verify(&problem).unwrap();
        let prepared = pollster::block_on(prepared.prepare()).unwrap();
        let buffers = || {
            let tree = gpu.gpu.storage_with("tree", &blobs).unwrap();
            (
                tree,
                gpu.gpu
                    .storage_with("lengths", lengths.as_flattened())
                    .unwrap(),
            )
        };
        let bound = |tree: &Buffer, lengths: &Buffer| {
            let io = VerifyIo {
                logits: (&logits).into(),
                draft: None,
                tree: tree.into(),
                lengths: lengths.into(),
                masks: None,
            };
            let verify = prepared.bind(&io).unwrap();
            for request in 0..batch {
                let options = VerifyRequest::new(Rule::Rejection, DrawKind::TopK, request.into());
                verify.set_request(request, &options).unwrap();
            }
            let rules = [[
                Workgroups::OfKeys { per: 100, most: 99 },
                Workgroups::OfKeys { per: 1, most: 7 },
                Workgroups::Fixed(3),
            ]];
            let sizes = DispatchSizes::new(&gpu.gpu, &rules, 0).unwrap();
            assert!(matches!(
                pollster::block_on(verify.advance(&io, 6, nodes, &sizes)),
                Err(VerifyError::Size {
                    name: "ring_tokens",
                    ..
                })
            ));
            let advance = pollster::block_on(verify.advance(&io, 16, nodes, &sizes)).unwrap();
            (verify, advance, sizes)
        };
        let (tree, places) = buffers();
        let (verify, ..) = bound(&tree, &places);
        let mut texts = vec![Vec::new(); batch as usize];
        for _ in 0..3 {
            gpu.run(|pass| {
                verify.encode(pass);
                verify.encode_finalise(pass);
            });
            let words: Vec<u32> = gpu.read(verify.outcome());
            for (text, words) in texts
                .iter_mut()
                .zip(words.chunks_exact(problem.outcome_words()))
            {
                if let Ok(verdict) = problem.verdict(words) {
                    text.extend(verdict.tokens);
                }
            }
        }
        let (tree, moved) = buffers();
        let (verify, advance, sizes) = bound(&tree, &moved);
        gpu.run(|pass| {
            for _ in 0..3 {
                verify.encode(pass);
                advance.encode(pass);
            }
        });
        let read = pollster::block_on(advance.read(&gpu.gpu, &mut advance.reader())).unwrap();
        for (i, (new, text)) in read.into_iter().zip(&texts).enumerate() {
            match i {
                2 => assert_eq!(
                    new,
                    Err(RingError::Outcome(OutcomeError::BadTree)),
                    "{}",
                    gpu.name
                ),
                _ => assert_eq!(new.unwrap().tokens, *text, "{}", gpu.name),
            }
        }
        assert_eq!(
            gpu.read::<u32>(&places),
            gpu.read::<u32>(&moved),
            "{}",
            gpu.name
        );
        // The next roots, of all but the one that stopped.
        let roots: Vec<u32> = gpu.read(&tree);
        let roots = roots.iter().step_by(good.len());
        for (i, (root, text)) in roots.zip(&texts).enumerate() {
            assert_eq!(root, text.last().unwrap_or(&1), "{}: {i}", gpu.name);
        }
        let keys = 4000 + texts[4].len() as u32 + nodes;
        let expected = sizes.rules()[0].map(|axis| axis.of(keys));
        assert_eq!(gpu.read::<u32>(sizes.buffer()), expected, "{}", gpu.name);
    });
}
