//! Trees whose tokens are drawn by chance on the GPU: against the twin, for their law, and verified without loss.

use sunfleck::reference::tree::{DrawnNode, drawn};
use sunfleck::tree::{
    DraftSampling, DraftTree, DrawKind, SampledTree, SampledTreeIo, SampledTreeShape,
    TreeBuildError, blob_words,
};
use sunfleck::verify::{Rule, Sampling, VerifyIo, VerifyProblem, VerifyRequest};
use sunfleck::wgpu::Buffer;

use crate::adapters::{TestGpu, on_every_adapter};
use crate::random::Random;

const KINDS: [DrawKind; 2] = [DrawKind::Iid, DrawKind::WithoutReplacement];

struct Bound {
    sampled: SampledTree,
    logits: Buffer,
    blobs: Buffer,
    lengths: Buffer,
}

impl Bound {
    fn new(gpu: &TestGpu, shape: &SampledTreeShape, roots: &[u32], positions: &[u32]) -> Self {
        let stride = shape.tree_stride as usize;
        let blobs: Vec<u32> = (roots.iter())
            .flat_map(|root| DraftTree::root_only(*root).blob(stride).unwrap())
            .collect();
        let blobs = gpu.gpu.storage_with("tree", &blobs).unwrap();
        let lengths: Vec<[u32; 4]> = positions.iter().map(|past| [1, *past, 0, 0]).collect();
        let lengths = gpu
            .gpu
            .storage_with("lengths", lengths.as_flattened())
            .unwrap();
        let words = shape.batch * shape.logit_rows * shape.row_stride;
        let logits = gpu.gpu.storage("logits", u64::from(words) * 4).unwrap();
        let io = SampledTreeIo {
            logits: (&logits).into(),
            tree: (&blobs).into(),
            lengths: (&lengths).into(),
        };
        let sampled = pollster::block_on(SampledTree::new(&gpu.gpu, shape, &io)).unwrap();
        Self {
            sampled,
            logits,
            blobs,
            lengths,
        }
    }

    fn trees(&self, gpu: &TestGpu) -> Vec<DraftTree> {
        let shape = self.sampled.shape();
        let (stride, draw) = (shape.tree_stride as usize, shape.draw);
        let words: Vec<u32> = gpu.read(&self.blobs);
        (words.chunks_exact(blob_words(stride)))
            .map(|blob| DraftTree::from_blob(blob, stride, draw).unwrap())
            .collect()
    }
}

/// Numbers that decide a draw differ from f64's by their roundings: a quotient and a sum of magnitude below 64, and
/// two logarithms.
const MARGIN: f64 = 5e-5;

#[test]
fn drawn_trees_equal_their_twin() {
    on_every_adapter(|gpu| {
        let mut random = Random(21);
        let (mut compared, mut near) = (0, 0);
        for kind in KINDS {
            for (vocabulary, children, top_k) in [
                (1u32, vec![2u32, 1], 0u32),
                (5, vec![3, 2, 2], 0),
                (70, vec![4, 3], 6),
                (5003, vec![2, 2], 32),
            ] {
                let mut shape = SampledTreeShape::new(&children, vocabulary, kind);
                shape.batch = 3;
                shape.row_stride += 3;
                shape.logit_rows += 1;
                shape.tree_stride += 5;
                shape.max_top_k = top_k;
                let positions = [5, 70_000, 9];
                let bound = Bound::new(gpu, &shape, &[4, 5, 6], &positions);
                let rows = shape.batch * shape.logit_rows;
                let stride = shape.row_stride as usize;
                let mut logits = random.normals(rows as usize * stride);
                for logit in &mut logits {
                    *logit = match random.below(20) {
                        0 => f32::NAN,
                        1 => f32::NEG_INFINITY,
                        _ => 3.0 * *logit,
                    };
                }
                let queue = gpu.gpu.queue();
                queue.write_buffer(&bound.logits, 0, bytemuck::cast_slice(&logits));
                let options: Vec<DraftSampling> = (0..3u32)
                    .map(|request| DraftSampling {
                        seed: 1000 + (u64::from(request) << 33),
                        temperature: [1.0, 0.6, 2.0][request as usize],
                        top_k: [top_k, top_k.min(1), 0][request as usize],
                    })
                    .collect();
                for (request, options) in (0..).zip(&options) {
                    bound.sampled.set_request(request, options).unwrap();
                }
                gpu.run(|pass| {
                    for level in 0..children.len() {
                        bound.sampled.encode_level(pass, level);
                    }
                });
                let lengths: Vec<u32> = gpu.read(&bound.lengths);
                for (request, tree) in bound.trees(gpu).iter().enumerate() {
                    assert_eq!(lengths[4 * request] as usize, tree.len(), "{}", gpu.name);
                    for node in 0..tree.len() {
                        let depth = tree.depths()[node];
                        let Some(&count) = children.get(depth as usize) else {
                            continue;
                        };
                        let at = (request * shape.logit_rows as usize + node) * stride;
                        let own = &options[request];
                        let of = DrawnNode {
                            seed: own.seed,
                            position: positions[request] + depth + 1,
                            depth: depth + 1,
                            node: node as u32,
                            temperature: own.temperature.into(),
                            top_k: own.top_k as usize,
                        };
                        let row = &logits[at..at + vocabulary as usize];
                        let twin = drawn(row, &of, count as usize, kind);
                        let got: Vec<usize> = tree.children(node).collect();
                        assert_eq!(got.len(), twin.len(), "{}: {kind:?} {vocabulary}", gpu.name);
                        for (child, twin) in got.into_iter().zip(twin) {
                            assert_eq!(tree.q_rows()[child] as usize, node, "{}", gpu.name);
                            if twin.margin < MARGIN {
                                near += 1;
                                continue;
                            }
                            compared += 1;
                            assert_eq!(
                                tree.tokens()[child],
                                twin.token,
                                "{}: {kind:?} {vocabulary}",
                                gpu.name
                            );
                        }
                    }
                }
            }
        }
        assert!(
            compared > 150 && near * 50 < compared,
            "{}: {compared} {near}",
            gpu.name
        );
    });
}

#[test]
fn the_coldest_temperatures_draw_the_likeliest_token() {
    on_every_adapter(|gpu| {
        let shape = SampledTreeShape::new(&[1; 8], 3, DrawKind::Iid);
        let bound = Bound::new(gpu, &shape, &[0], &[5]);
        // The least normal number, and one that GPUs may take for 0.
        for temperature in [f32::MIN_POSITIVE, 1e-45] {
            for row in [[0.5f32, 3.0, 2.5], [-2.0, -1.0, -1.5]] {
                let root = DraftTree::root_only(0).blob(shape.tree_stride as usize);
                let queue = gpu.gpu.queue();
                queue.write_buffer(&bound.blobs, 0, bytemuck::cast_slice(&root.unwrap()));
                let lengths: [u32; 4] = [1, 5, 0, 0];
                queue.write_buffer(&bound.lengths, 0, bytemuck::cast_slice(&lengths));
                let rows = [row; 8];
                queue.write_buffer(&bound.logits, 0, bytemuck::cast_slice(&rows));
                let options = DraftSampling {
                    seed: 9,
                    temperature,
                    top_k: 0,
                };
                bound.sampled.set_request(0, &options).unwrap();
                gpu.run(|pass| (0..8).for_each(|level| bound.sampled.encode_level(pass, level)));
                let tree = bound.trees(gpu).remove(0);
                assert_eq!(tree.tokens(), [0, 1, 1, 1, 1, 1, 1, 1, 1], "{}", gpu.name);
            }
        }
    });
}

/// Chi-squared of counts against weights.
fn chi_squared(counts: &[f64], weights: &[f64]) -> f64 {
    let total: f64 = counts.iter().sum();
    (counts.iter().zip(weights))
        .filter(|(_, weight)| **weight > 0.0)
        .map(|(count, weight)| (count - weight * total).powi(2) / (weight * total))
        .sum()
}

/// What chi-squared with so many degrees of freedom passes once in 1e9 (Wilson and Hilferty 1931).
fn critical(freedom: usize) -> f64 {
    let freedom = freedom as f64;
    let share = 2.0 / (9.0 * freedom);
    freedom * (1.0 - share + 6.0 * share.sqrt()).powi(3)
}

const TEXTS: u32 = 2000;
const VOCABULARY: usize = 4;

/// A distribution that depends on the token before.
fn row(salt: u64, token: u32) -> Vec<f64> {
    let mut random = Random(salt * 100 + u64::from(token));
    let weights: Vec<f64> = (0..VOCABULARY).map(|_| 0.3 + random.unit()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

#[test]
fn drafts_drawn_on_the_gpu_have_their_law_and_verify_without_loss() {
    on_every_adapter(|gpu| {
        if !(crate::full() || gpu.name.contains("llvmpipe") && gpu.name.contains("all features")) {
            return;
        }
        for (kind, rule) in [
            (DrawKind::Iid, Rule::Rejection),
            (DrawKind::WithoutReplacement, Rule::Rejection),
            (DrawKind::WithoutReplacement, Rule::Traversal),
        ] {
            // The draft is a sharpened row: the temperature must be undone where it is verified.
            let temperature = 0.5f32;
            let drafting = Sampling {
                temperature,
                ..Sampling::default()
            };
            let q = |token: u32| -> Vec<f64> {
                let sharp: Vec<f64> = row(2, token).iter().map(|p| p.powi(2)).collect();
                let sum: f64 = sharp.iter().sum();
                sharp.iter().map(|p| p / sum).collect()
            };
            let logs = |salt: u64, token: u32| row(salt, token).into_iter().map(|p| p.ln() as f32);
            let mut shape = SampledTreeShape::new(&[2, 1], VOCABULARY as u32, kind);
            shape.batch = TEXTS;
            let rows = shape.logit_rows as usize;
            let root = 1u32;
            let roots = vec![root; TEXTS as usize];
            let bound = Bound::new(gpu, &shape, &roots, &vec![6; TEXTS as usize]);
            for request in 0..TEXTS {
                let options = DraftSampling {
                    seed: 77_000 + u64::from(request),
                    temperature,
                    top_k: 0,
                };
                bound.sampled.set_request(request, &options).unwrap();
            }
            // The draft model, on the host: after the root, and after the level that was drawn.
            let mut draft = vec![0f32; TEXTS as usize * rows * VOCABULARY];
            let mut trees = vec![DraftTree::root_only(root); TEXTS as usize];
            for level in 0..2 {
                for (tree, rows) in trees.iter().zip(draft.chunks_exact_mut(rows * VOCABULARY)) {
                    let nodes = if level == 0 { 0..1 } else { 1..3 };
                    for node in nodes {
                        let logits = logs(2, tree.tokens()[node]);
                        for (logit, log) in rows[node * VOCABULARY..].iter_mut().zip(logits) {
                            *logit = log;
                        }
                    }
                }
                let queue = gpu.gpu.queue();
                queue.write_buffer(&bound.logits, 0, bytemuck::cast_slice(&draft));
                gpu.run(|pass| bound.sampled.encode_level(pass, level));
                trees = bound.trees(gpu);
            }
            // The law of the two children, and of what follows the first.
            let mut pairs = vec![0f64; VOCABULARY * VOCABULARY];
            let mut pair_law = pairs.clone();
            for tree in &trees {
                assert_eq!(tree.len(), 5);
                let [a, b] = [1, 2].map(|node| tree.tokens()[node] as usize);
                pairs[a * VOCABULARY + b] += 1.0;
            }
            let first = q(root);
            for a in 0..VOCABULARY {
                for b in 0..VOCABULARY {
                    pair_law[a * VOCABULARY + b] = first[a]
                        * match kind {
                            DrawKind::Iid => first[b],
                            _ if a == b => 0.0,
                            _ => first[b] / (1.0 - first[a]),
                        };
                }
            }
            let cells = pair_law.iter().filter(|p| **p > 0.0).count();
            let x = chi_squared(&pairs, &pair_law);
            assert!(x < critical(cells - 1), "{}: {kind:?}: {x}", gpu.name);
            let mut nexts = vec![0f64; VOCABULARY * VOCABULARY];
            let mut next_law = nexts.clone();
            for tree in &trees {
                let [a, b] = [1, 3].map(|node| tree.tokens()[node] as usize);
                nexts[a * VOCABULARY + b] += 1.0;
            }
            for a in 0..VOCABULARY {
                for b in 0..VOCABULARY {
                    next_law[a * VOCABULARY + b] = first[a] * q(a as u32)[b];
                }
            }
            let x = chi_squared(&nexts, &next_law);
            assert!(x < critical(nexts.len() - 1), "{}: {kind:?}: {x}", gpu.name);

            // Verified, the first two tokens have the target's law.
            let mut problem = VerifyProblem::new(TEXTS, 5, VOCABULARY as u32);
            problem.draft_rows = rows as u32;
            let logits: Vec<f32> = (trees.iter())
                .flat_map(|tree| tree.tokens().iter().flat_map(|token| logs(3, *token)))
                .collect();
            let logits = gpu.gpu.storage_with("target", &logits).unwrap();
            let plan = gpu.gpu.plan_verify(&problem).unwrap();
            let prepared = pollster::block_on(plan.prepare()).unwrap();
            let verify = prepared
                .bind(&VerifyIo {
                    logits: (&logits).into(),
                    draft: Some((&bound.logits).into()),
                    tree: (&bound.blobs).into(),
                    lengths: (&bound.lengths).into(),
                    masks: None,
                })
                .unwrap();
            let law = |claimed: DrawKind| {
                for request in 0..TEXTS {
                    let seed = 77_000 + u64::from(request);
                    let mut options = VerifyRequest::new(rule, claimed, seed);
                    options.drafting = drafting;
                    verify.set_request(request, &options).unwrap();
                }
                gpu.run(|pass| verify.encode(pass));
                let words: Vec<u32> = gpu.read(verify.outcome());
                let mut counts = vec![0f64; VOCABULARY];
                let mut accepted = 0;
                for words in words.chunks_exact(problem.outcome_words()) {
                    let verdict = problem.verdict(words).unwrap();
                    counts[verdict.tokens[0] as usize] += 1.0;
                    accepted += verdict.path.len() - 1;
                }
                (chi_squared(&counts, &row(3, root)), accepted)
            };
            let (x, accepted) = law(kind);
            assert!(accepted > TEXTS as usize / 3, "{}: {accepted}", gpu.name);
            assert!(
                x < critical(VOCABULARY - 1),
                "{}: {kind:?} {rule:?}: {x}",
                gpu.name
            );
        }
    });
}

#[test]
fn shapes_and_options_out_of_range_are_refused() {
    on_every_adapter(|gpu| {
        let good = SampledTreeShape::new(&[2, 2], 10, DrawKind::Iid);
        let logits = gpu.gpu.storage("logits", 4096).unwrap();
        let tree = gpu.gpu.storage("tree", 1 << 16).unwrap();
        let lengths = gpu.gpu.storage("lengths", 16).unwrap();
        let io = SampledTreeIo {
            logits: (&logits).into(),
            tree: (&tree).into(),
            lengths: (&lengths).into(),
        };
        let with = |change: &dyn Fn(&mut SampledTreeShape)| {
            let mut shape = good.clone();
            change(&mut shape);
            pollster::block_on(SampledTree::new(&gpu.gpu, &shape, &io)).err()
        };
        assert!(with(&|_| ()).is_none());
        type Change<'a> = &'a dyn Fn(&mut SampledTreeShape);
        let changes: [(&str, Change<'_>); 9] = [
            ("batch", &|shape| shape.batch = 0),
            ("levels", &|shape| shape.children.clear()),
            ("children", &|shape| shape.children[1] = 33),
            ("nodes", &|shape| shape.children = vec![32, 32]),
            ("vocabulary", &|shape| shape.vocabulary = 0),
            ("row_stride", &|shape| shape.row_stride = 9),
            ("logit_rows", &|shape| shape.logit_rows = 2),
            ("tree_stride", &|shape| shape.tree_stride = 6),
            ("draw", &|shape| shape.draw = DrawKind::TopK),
        ];
        for (wanted, change) in changes {
            let refused = with(change);
            let named =
                matches!(refused, Some(TreeBuildError::Size { name, .. }) if name == wanted);
            assert!(named, "{wanted}: {refused:?}");
        }
        assert!(matches!(
            with(&|shape| shape.row_stride = 1 << 20),
            Some(TreeBuildError::ViewTooSmall { name: "logits", .. })
        ));
        let sampled = pollster::block_on(SampledTree::new(&gpu.gpu, &good, &io)).unwrap();
        let plain = DraftSampling {
            seed: 0,
            temperature: 1.0,
            top_k: 0,
        };
        assert!(sampled.set_request(0, &plain).is_ok());
        assert!(sampled.set_request(1, &plain).is_err());
        let cut = DraftSampling { top_k: 1, ..plain };
        assert!(sampled.set_request(0, &cut).is_err());
        let cold = DraftSampling {
            temperature: 0.0,
            ..plain
        };
        assert!(matches!(
            sampled.set_request(0, &cold),
            Err(TreeBuildError::Temperature { .. })
        ));
    });
}
