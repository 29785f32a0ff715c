//! Trees that are built on the GPU, against their twins.

use sunfleck::reference::tree::{DynamicGrowth, top_k};
use sunfleck::tree::{
    DraftTree, DrawKind, DynamicTree, DynamicTreeIo, DynamicTreeShape, FixedTree, FixedTreeIo,
    NONE, TokenMap, TopK, TopKShape, TreeBuildError, blob_words,
};
use sunfleck::wgpu::Buffer;

use crate::adapters::{TestGpu, all};
use crate::random::Random;

fn candidates(test: &TestGpu, top: &TopK) -> Vec<(u32, f32)> {
    test.run(|pass| top.encode(pass));
    let words: Vec<u32> = test.read(top.candidates());
    (words.chunks_exact(2))
        .map(|pair| (pair[0], f32::from_bits(pair[1])))
        .collect()
}

/// Rows of every difficulty: normal, many ties, nothing but NaN and infinities, rising, all equal.
fn rows(random: &mut Random, vocabulary: usize) -> Vec<Vec<f32>> {
    let normal: Vec<f32> = random.normals(vocabulary).iter().map(|x| x * 4.0).collect();
    let ties = (0..vocabulary)
        .map(|_| random.below(5) as f32 - 2.0)
        .collect();
    let odd = (0..vocabulary)
        .map(|i| match random.below(6) {
            0 => f32::NAN,
            1 => f32::NEG_INFINITY,
            2 if i % 7 == 0 => f32::INFINITY,
            3 => -0.0,
            4 => 0.0,
            _ => random.unit() as f32,
        })
        .collect();
    let rising = (0..vocabulary)
        .map(|i| i as f32 / vocabulary as f32)
        .collect();
    let negative = (0..vocabulary).map(|i| -1e30 - i as f32 * 1e25).collect();
    vec![
        normal,
        ties,
        odd,
        rising,
        negative,
        vec![1.5; vocabulary],
        vec![f32::NAN; vocabulary],
    ]
}

#[test]
fn top_k_equals_its_twin() {
    let mut random = Random(11);
    for test in all() {
        for (vocabulary, k) in [(1, 1), (3, 3), (3, 8), (257, 5), (2049, 32), (49_152, 10)] {
            let rows = rows(&mut random, vocabulary);
            let logits = test.gpu.storage_with("logits", &rows.concat()).unwrap();
            let shape = TopKShape::new(vocabulary as u32, k, rows.len() as u32);
            let top = pollster::block_on(TopK::new(&test.gpu, &shape, (&logits).into(), None));
            let found = candidates(test, &top.unwrap());
            for (row, found) in rows.iter().zip(found.chunks_exact(k as usize)) {
                let twin = top_k(row, k as usize);
                for (rank, &(token, log_probability)) in found.iter().enumerate() {
                    let Some(expected) = twin.get(rank) else {
                        assert_eq!(token, NONE, "{}: vocabulary {vocabulary}", test.name);
                        continue;
                    };
                    assert_eq!(
                        token, expected.token,
                        "{}: {vocabulary}, rank {rank}",
                        test.name
                    );
                    let exact = expected.log_probability.max(f64::from(f32::MIN));
                    let error = (f64::from(log_probability) - exact).abs();
                    assert!(
                        error <= 1e-5 * exact.abs().max(1.0) && log_probability <= 0.0,
                        "{}: {vocabulary}, rank {rank}: {log_probability} {exact}",
                        test.name
                    );
                }
            }
        }
    }
}

#[test]
fn top_k_of_the_largest_vocabulary_takes_tokens_of_a_map_and_rows_of_requests() {
    let mut random = Random(12);
    let vocabulary = 262_144u32;
    // Requests of two rows, of which the second is looked at.
    let logits = random.normals(4 * vocabulary as usize);
    let tokens: Vec<u32> = (0..vocabulary).rev().collect();
    for test in all() {
        let map = TokenMap::new(&test.gpu, &tokens, vocabulary).unwrap();
        let buffer = test.gpu.storage_with("logits", &logits).unwrap();
        let shape = TopKShape {
            batch: 2,
            request_rows: 2,
            first_row: 1,
            ..TopKShape::new(vocabulary, 32, 1)
        };
        let top = TopK::new(&test.gpu, &shape, (&buffer).into(), Some(&map));
        let found = candidates(test, &pollster::block_on(top).unwrap());
        for (request, found) in found.chunks_exact(32).enumerate() {
            let row = &logits[(2 * request + 1) * vocabulary as usize..][..vocabulary as usize];
            let twin: Vec<u32> = (top_k(row, 32).iter())
                .map(|candidate| tokens[candidate.token as usize])
                .collect();
            let found: Vec<u32> = found.iter().map(|candidate| candidate.0).collect();
            assert_eq!(found, twin, "{}", test.name);
        }
    }
}

#[test]
fn a_draft_vocabulary_names_each_token_once() {
    let gpu = &all()[0].gpu;
    for tokens in [&[][..], &[1, 2, 1], &[4]] {
        assert!(TokenMap::new(gpu, tokens, 4).is_err());
    }
    assert_eq!(TokenMap::new(gpu, &[3, 1], 4).unwrap().len(), 2);
}

/// A draft model of tests: the row after a token at a depth, the same in every run. Numbers are far enough
/// apart that sums of their log-probabilities do not meet by rounding, except in rows of ties.
struct Model {
    vocabulary: usize,
    ties: bool,
    seed: u64,
}

impl Model {
    fn row(&self, token: u32, depth: u32) -> Vec<f32> {
        let mut random = Random(self.seed ^ (u64::from(token) << 20) ^ u64::from(depth));
        match self.ties {
            true => vec![0.0; self.vocabulary],
            false => random
                .normals(self.vocabulary)
                .iter()
                .map(|x| x * 2.0)
                .collect(),
        }
    }
}

struct Built {
    shape: DynamicTreeShape,
    logits: Buffer,
    blob: Buffer,
    lengths: Buffer,
    tree: DynamicTree,
}

const PAST: u32 = 40;

fn build(test: &TestGpu, shape: DynamicTreeShape) -> Built {
    let gpu = &test.gpu;
    let rows = u64::from(shape.batch * shape.width * shape.row_stride);
    let logits = gpu.storage("logits", rows * 4).unwrap();
    let words = blob_words(shape.tree_stride as usize);
    let mut blobs = vec![0xdead_beefu32; words * shape.batch as usize];
    (0..shape.batch).for_each(|request| blobs[request as usize * words] = request % 2);
    let blob = gpu.storage_with("tree", &blobs).unwrap();
    let lengths = vec![[9, PAST, 0, 0]; shape.batch as usize];
    let lengths = gpu.storage_with("lengths", lengths.as_flattened()).unwrap();
    let io = DynamicTreeIo {
        logits: (&logits).into(),
        tree: (&blob).into(),
        lengths: (&lengths).into(),
        map: None,
    };
    let tree = pollster::block_on(DynamicTree::new(gpu, &shape, &io)).unwrap();
    Built {
        shape,
        logits,
        blob,
        lengths,
        tree,
    }
}

/// Runs all levels with rows of `row(request, token, depth)`, and compares everything with the twin.
fn compare(test: &TestGpu, built: &Built, row: &dyn Fn(u32, u32, u32) -> Vec<f32>) {
    let shape = &built.shape;
    let (batch, width) = (shape.batch as usize, shape.width as usize);
    let read = |view: sunfleck::gpu::BufferView<'_>| -> Vec<u32> {
        let words: Vec<u32> = test.read(view.buffer);
        words[view.offset as usize / 4..][..batch * width].to_vec()
    };
    let mut twins: Vec<(DynamicGrowth, Vec<usize>)> = (0..shape.batch)
        .map(|request| (DynamicGrowth::new(request % 2), vec![0]))
        .collect();
    let stride = shape.row_stride as usize;
    test.run(|pass| built.tree.encode_begin(pass));
    for level in 0..shape.depth {
        // What the draft model would read.
        let rows = shape.rows(level);
        let tokens = read(built.tree.tokens());
        let depths = read(built.tree.depths());
        let sequences: Vec<[u32; 4]> = test.read(built.tree.sequences());
        let drafting: Vec<u32> = test.read(built.tree.drafting());
        let nodes = shape.drafting_nodes() as usize;
        let mut logits = vec![f32::NAN; batch * width * stride];
        for (request, (growth, present)) in twins.iter_mut().enumerate() {
            let first = shape.first_node(level);
            assert_eq!(
                sequences[request],
                [rows, PAST + first, 0, 0],
                "{}",
                test.name
            );
            let blob = &drafting[request * blob_words(nodes)..][..blob_words(nodes)];
            // Padding may repeat a token among siblings, hence the draw.
            let tree = DraftTree::from_blob(blob, nodes, DrawKind::Iid)
                .unwrap_or_else(|error| panic!("{}: level {level}: {error}", test.name));
            assert_eq!(tree.len() as u32, first + rows, "{}", test.name);
            let own = &tokens[request * width..][..rows as usize];
            let of_twin: Vec<u32> = present.iter().map(|&e| growth.entries()[e].token).collect();
            assert_eq!(
                own[..of_twin.len()],
                of_twin,
                "{}: level {level}",
                test.name
            );
            assert_eq!(own, &tree.tokens()[first as usize..], "{}", test.name);
            let mut twin_rows = Vec::new();
            for i in 0..rows as usize {
                let depth = depths[request * width + i].wrapping_add(first);
                assert_eq!(depth, level, "{}", test.name);
                let values = row(request as u32, own[i], level);
                logits[(request * width + i) * stride..][..values.len()].copy_from_slice(&values);
                twin_rows.push(values);
            }
            let twin_rows: Vec<&[f32]> = twin_rows.iter().map(Vec::as_slice).collect();
            let next = if level + 1 < shape.depth {
                shape.rows(level + 1)
            } else {
                0
            };
            let children = shape.children as usize;
            *present = growth.expand(present, &twin_rows, children, next as usize);
        }
        let bytes: &[u8] = bytemuck::cast_slice(&logits);
        test.gpu.queue().write_buffer(&built.logits, 0, bytes);
        test.run(|pass| built.tree.encode_level(pass, level));
    }
    test.run(|pass| built.tree.encode_finish(pass));
    let blobs: Vec<u32> = test.read(&built.blob);
    let lengths: Vec<[u32; 4]> = test.read(&built.lengths);
    let words = blob_words(shape.tree_stride as usize);
    for (request, (growth, _)) in twins.iter().enumerate() {
        let blob = &blobs[request * words..][..words];
        let tree = DraftTree::from_blob(blob, shape.tree_stride as usize, DrawKind::TopK)
            .unwrap_or_else(|error| panic!("{}: {shape:?}: {error}", test.name));
        let twin = growth.finish(shape.max_nodes as usize).unwrap();
        assert_eq!(tree, twin, "{}: {shape:?}", test.name);
        assert_eq!(
            lengths[request],
            [tree.len() as u32, PAST, 0, 0],
            "{}",
            test.name
        );
    }
}

#[test]
fn dynamic_trees_equal_their_twin() {
    for test in all() {
        for (depth, width, children, max_nodes, vocabulary) in [
            (1, 1, 1, 2, 1),
            (4, 1, 1, 5, 40),
            (3, 4, 4, 16, 300),
            (5, 10, 10, 60, 300),
            (3, 2, 8, 1, 9),
            (2, 32, 32, 512, 64),
            (4, 3, 2, 100, 2),
        ] {
            let shape = DynamicTreeShape {
                batch: 2,
                tree_stride: max_nodes + 5,
                row_stride: vocabulary + 3,
                ..DynamicTreeShape::new(depth, width, children, max_nodes, vocabulary)
            };
            let built = build(test, shape);
            let model = Model {
                vocabulary: vocabulary as usize,
                ties: false,
                seed: u64::from(depth * 100 + width),
            };
            compare(test, &built, &|request, token, level| {
                model.row(token + 1000 * request, level)
            });
        }
    }
}

#[test]
fn every_number_of_nodes_gives_a_tree() {
    let test = &all()[0];
    let model = Model {
        vocabulary: 20,
        ties: false,
        seed: 5,
    };
    for max_nodes in 1..40 {
        let built = build(test, DynamicTreeShape::new(3, 3, 4, max_nodes, 20));
        compare(test, &built, &|_, token, level| model.row(token, level));
    }
}

#[test]
fn a_shape_serves_smaller_trees_of_fewer_levels() {
    for test in all() {
        let model = Model {
            vocabulary: 30,
            ties: false,
            seed: 12,
        };
        let grown = |built: &Built, levels: u32| {
            test.run(|pass| built.tree.encode_begin(pass));
            for level in 0..levels {
                let (view, width) = (built.tree.tokens(), built.shape.width as usize);
                let frontier: Vec<u32> = test.read(view.buffer);
                let mut logits = vec![f32::NAN; width * 30];
                for (row, &token) in frontier[view.offset as usize / 4..][..width]
                    .iter()
                    .enumerate()
                {
                    logits[row * 30..][..30].copy_from_slice(&model.row(token, level));
                }
                let bytes: &[u8] = bytemuck::cast_slice(&logits);
                test.gpu.queue().write_buffer(&built.logits, 0, bytes);
                test.run(|pass| built.tree.encode_level(pass, level));
            }
            test.run(|pass| built.tree.encode_finish(pass));
            let blob: Vec<u32> = test.read(&built.blob);
            DraftTree::from_blob(&blob, built.shape.tree_stride as usize, DrawKind::TopK).unwrap()
        };
        let mut large = build(test, DynamicTreeShape::new(4, 3, 4, 30, 30));
        for (levels, nodes) in [(2, 9), (1, 3), (4, 30), (3, 12)] {
            large.tree.set_max_nodes(&test.gpu, nodes).unwrap();
            let own = build(test, DynamicTreeShape::new(levels, 3, 4, nodes, 30));
            assert_eq!(grown(&large, levels), grown(&own, levels), "{}", test.name);
        }
        for nodes in [0, 31] {
            assert!(large.tree.set_max_nodes(&test.gpu, nodes).is_err());
        }
    }
}

#[test]
fn equal_probabilities_go_to_the_lower_index() {
    for test in all() {
        let model = Model {
            vocabulary: 16,
            ties: true,
            seed: 0,
        };
        for max_nodes in [1, 2, 7, 20, 33] {
            let built = build(test, DynamicTreeShape::new(3, 4, 4, max_nodes, 16));
            compare(test, &built, &|_, token, level| model.row(token, level));
        }
    }
}

#[test]
fn rows_without_enough_numbers_leave_a_smaller_tree() {
    for test in all() {
        let built = build(test, DynamicTreeShape::new(4, 5, 6, 40, 30));
        let model = Model {
            vocabulary: 30,
            ties: false,
            seed: 77,
        };
        // Two numbers after even tokens, none after odd ones.
        compare(test, &built, &|_, token, level| {
            let row = model.row(token, level);
            let is_kept = |i: usize| token.is_multiple_of(2) && i / 2 == 3 + level as usize;
            let keep = |(i, x)| if is_kept(i) { x } else { f32::NAN };
            row.into_iter().enumerate().map(keep).collect()
        });
        let built = build(test, DynamicTreeShape::new(3, 5, 6, 40, 30));
        compare(test, &built, &|_, _, _| vec![f32::NEG_INFINITY; 30]);
    }
}

#[test]
fn fixed_trees_equal_those_of_the_cpu() {
    let mut random = Random(3);
    let paths: &[&[usize]] = &[
        &[1],
        &[0],
        &[0, 0],
        &[1, 2],
        &[0, 1],
        &[0, 0, 3],
        &[2],
        &[1, 2, 0],
    ];
    let (heads, vocabulary, stride) = (3u32, 50u32, 70u32);
    for test in all() {
        let mut logits = random.normals(2 * 3 * 50);
        // The second request's second head has one number.
        logits[4 * 50..5 * 50].fill(f32::NAN);
        logits[4 * 50 + 17] = 0.5;
        let buffer = test.gpu.storage_with("logits", &logits).unwrap();
        let words = blob_words(stride as usize);
        let mut blobs = vec![7u32; 2 * words];
        blobs[words] = 8;
        let blob = test.gpu.storage_with("tree", &blobs).unwrap();
        let lengths = test
            .gpu
            .storage_with("lengths", &[[0u32, PAST, 0, 0]; 2])
            .unwrap();
        let io = FixedTreeIo {
            logits: (&buffer).into(),
            tree: (&blob).into(),
            lengths: (&lengths).into(),
            map: None,
        };
        let fixed = FixedTree::new(&test.gpu, 2, paths, heads, vocabulary, stride, &io);
        let mut fixed = pollster::block_on(fixed).unwrap();
        // Another shape in between: its nodes alone are there, and what it can't be leaves it as it was.
        let fewer: &[&[usize]] = &[&[0], &[0, 2]];
        fixed.set_paths(&test.gpu, fewer).unwrap();
        assert_eq!(fixed.nodes(), 3);
        test.run(|pass| fixed.encode(pass));
        let first: Vec<u32> = test.read(&blob);
        let tree = DraftTree::from_blob(&first[..words], stride as usize, DrawKind::TopK).unwrap();
        assert_eq!(tree.parents(), [NONE, 0, 1]);
        let second_head = top_k(&logits[50..100], 3);
        assert_eq!(tree.tokens()[2], second_head[2].token);
        let too_many: [&[usize]; 9] = [&[0]; 9];
        let refused: [&[&[usize]]; 3] = [&[&[4]], &[&[0, 0]], &too_many];
        for paths in refused {
            assert!(fixed.set_paths(&test.gpu, paths).is_err());
        }
        fixed.set_paths(&test.gpu, paths).unwrap();
        test.run(|pass| fixed.encode(pass));
        let blobs: Vec<u32> = test.read(&blob);
        let lengths: Vec<[u32; 4]> = test.read(&lengths);
        for request in 0..2 {
            let heads: Vec<Vec<u32>> = (0..3)
                .map(|head| {
                    let row = &logits[(request * 3 + head) * 50..][..50];
                    top_k(row, 4).iter().map(|c| c.token).collect()
                })
                .collect();
            // What the second head lacks is left out with what is below.
            let there = |path: &&&[usize]| (0..path.len()).all(|d| path[d] < heads[d].len());
            let kept: Vec<&[usize]> = paths.iter().filter(there).copied().collect();
            assert_eq!(kept.len(), if request == 0 { 8 } else { 5 });
            let expected = DraftTree::from_paths(7 + request as u32, &kept, &heads).unwrap();
            let blob = &blobs[request * words..][..words];
            let tree = DraftTree::from_blob(blob, stride as usize, DrawKind::TopK).unwrap();
            assert_eq!(tree, expected, "{}", test.name);
            assert_eq!(lengths[request], [tree.len() as u32, PAST, 0, 0]);
            // A tree that the GPU built, drawn.
            assert!(
                tree.to_text(|token| token.to_string())
                    .starts_with(if request == 0 { "7" } else { "8" })
            );
        }
    }
}

#[test]
fn sizes_out_of_range_are_refused() {
    let gpu = &all()[0].gpu;
    let small = gpu.storage("small", 4096).unwrap();
    let io = DynamicTreeIo {
        logits: (&small).into(),
        tree: (&small).into(),
        lengths: (&small).into(),
        map: None,
    };
    let good = DynamicTreeShape::new(2, 2, 2, 4, 8);
    for shape in [
        DynamicTreeShape { batch: 0, ..good },
        DynamicTreeShape { depth: 0, ..good },
        DynamicTreeShape { depth: 65, ..good },
        DynamicTreeShape { width: 0, ..good },
        DynamicTreeShape {
            children: 0,
            ..good
        },
        DynamicTreeShape {
            children: 9,
            ..good
        },
        DynamicTreeShape {
            max_nodes: 0,
            ..good
        },
        DynamicTreeShape {
            max_nodes: 513,
            tree_stride: 600,
            ..good
        },
        DynamicTreeShape {
            tree_stride: 3,
            ..good
        },
        DynamicTreeShape {
            vocabulary: 0,
            ..good
        },
        DynamicTreeShape {
            row_stride: 7,
            ..good
        },
        DynamicTreeShape {
            depth: 64,
            width: 200,
            vocabulary: 100,
            children: 32,
            ..good
        },
    ] {
        let refused = pollster::block_on(DynamicTree::new(gpu, &shape, &io));
        assert!(
            matches!(refused, Err(TreeBuildError::Size { .. })),
            "{shape:?}: {refused:?}"
        );
    }
    let large = DynamicTreeShape::new(2, 2, 2, 4, 8000);
    let refused = pollster::block_on(DynamicTree::new(gpu, &large, &io));
    assert!(
        matches!(refused, Err(TreeBuildError::ViewTooSmall { .. })),
        "{refused:?}"
    );
}
