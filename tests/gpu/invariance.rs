//! The invariance contract: the bits of a row depend on nothing but the row.

use sunfleck::{
    attention::{AttentionProblem, Mask},
    gpu::BufferView,
    ops::{Epilogue, Linear, LinearIo, MatrixWriter, StepBuffer, WeightType},
    reference::blocks,
    tree::{self, DraftTree},
};

use crate::{adapters::on_every_adapter, attention::run, ops::format, random::Random};

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn verify_equals_decode_bit_for_bit() {
    on_every_adapter(|gpu| {
        // More packed rows (75) than where the prefill kernel would take over.
        let (heads, kv_heads, dim, nodes) = (6, 2, 40, 25usize);
        for past in [3usize, 250, 256, 509] {
            let keys = past + nodes;
            let mut random = Random(past as u64);
            let q = random.normals(nodes * heads * dim);
            let k = random.normals(keys * kv_heads * dim);
            let v = random.normals(keys * kv_heads * dim);
            let problem = |queries: usize, keys: usize| {
                let sizes = [heads, kv_heads, dim, queries, keys].map(|n| n as u32);
                let [heads, kv_heads, dim, queries, keys] = sizes;
                AttentionProblem {
                    invariant: true,
                    ..AttentionProblem::new(heads, kv_heads, dim, queries, keys)
                }
            };
            let all = [(nodes as u32, keys as u32)];
            let (verified, _) = run(gpu, &problem(nodes, keys), &all, [&q, &k, &v], None);
            // The same chain as a draft tree.
            let chain = DraftTree::chain(0, &[0; 24]).unwrap();
            let mut tree_problem = problem(nodes, keys);
            tree_problem.mask = Mask::Tree { max_nodes: 32 };
            let (as_tree, _) = run(gpu, &tree_problem, &all, [&q, &k, &v], Some(&chain));
            assert_eq!(
                bits(&verified),
                bits(&as_tree),
                "{} past {past}: tree",
                gpu.name
            );
            let width = heads * dim;
            for node in 0..nodes {
                let keys = past + node + 1;
                let one = [(1, keys as u32)];
                let (decoded, _) = run(
                    gpu,
                    &problem(1, keys),
                    &one,
                    [
                        &q[node * width..][..width],
                        &k[..keys * kv_heads * dim],
                        &v[..keys * kv_heads * dim],
                    ],
                    None,
                );
                let row = &verified[node * width..][..width];
                assert_eq!(
                    bits(row),
                    bits(&decoded),
                    "{} past {past} node {node}",
                    gpu.name
                );
            }
        }
    });
}

#[test]
fn a_sequence_has_the_same_bits_alone_and_in_a_batch() {
    on_every_adapter(|gpu| {
        let (dim, keys) = (32usize, 300usize);
        let mut random = Random(4);
        let q = random.normals(3 * dim);
        let k = random.normals(3 * keys * dim);
        let v = random.normals(3 * keys * dim);
        let mut batch = AttentionProblem::new(1, 1, dim as u32, 1, keys as u32);
        batch.batch = 3;
        let sequences = [(1, 300), (1, 17), (1, 258)];
        let (together, _) = run(gpu, &batch, &sequences, [&q, &k, &v], None);
        let one = AttentionProblem::new(1, 1, dim as u32, 1, keys as u32);
        for (b, lengths) in sequences.iter().enumerate() {
            let inputs = [
                &q[b * dim..][..dim],
                &k[b * keys * dim..][..keys * dim],
                &v[b * keys * dim..][..keys * dim],
            ];
            let (alone, _) = run(gpu, &one, &[*lengths], inputs, None);
            assert_eq!(
                bits(&together[b * dim..][..dim]),
                bits(&alone),
                "{} {b}",
                gpu.name
            );
        }
    });
}

#[test]
fn a_linear_layer_gives_a_token_the_same_bits_in_any_company() {
    on_every_adapter(|gpu| {
        let (rows, tokens) = (96usize, 19usize);
        for ty in WeightType::ALL {
            let format = format(ty);
            let columns = 576usize.next_multiple_of(format.block_elements());
            let mut random = Random(31);
            let bytes = blocks::quantise(format, &random.normals(rows * columns)).unwrap();
            let mut writer =
                MatrixWriter::new(&gpu.gpu, "w", ty, rows as u32, columns as u32).unwrap();
            writer.push_rows(&bytes);
            let matrix = writer.finish();
            let x = random.normals(tokens * columns);
            let run = |x: &[f32]| -> Vec<f32> {
                let count = x.len() / columns;
                let x = gpu.gpu.storage_with("x", x).unwrap();
                let y = gpu.gpu.storage("y", (count * rows * 4) as u64).unwrap();
                let step = StepBuffer::new(&gpu.gpu, count as u32, 0).unwrap();
                let io = LinearIo {
                    x: BufferView::whole(&x),
                    x_stride: columns as u32,
                    y: BufferView::whole(&y),
                    y_stride: rows as u32,
                    y_offset: 0,
                };
                let layer = Linear::new(&gpu.gpu, &matrix, Epilogue::Assign, &step, &io);
                let layer = pollster::block_on(layer).unwrap();
                gpu.run(|pass| layer.encode_few(pass, count as u32));
                gpu.read(&y)
            };
            let together = run(&x);
            for count in [1, 2, 3, 5, 8, 16] {
                let got = run(&x[..count * columns]);
                assert_eq!(
                    bits(&got),
                    bits(&together[..count * rows]),
                    "{} {ty:?}: {count} of {tokens} tokens",
                    gpu.name
                );
            }
        }
    });
}

#[test]
fn a_tree_blob_has_the_words_that_the_mask_reads() {
    // `mask_tree.wgsl` finds the ancestors of node n at ancestors_offset + n * ancestor_words.
    let tree = DraftTree::chain(9, &[8, 7]).unwrap();
    let blob = tree.blob(64).unwrap();
    let words = tree::ancestor_words(64);
    let base = tree::ancestors_offset(64);
    let rows: Vec<u32> = (0..3).map(|n| blob[base + n * words]).collect();
    assert_eq!(rows, [0b001, 0b011, 0b111]);
}
