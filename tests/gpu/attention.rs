//! Attention against its twin.

use sunfleck::{
    attention::{
        AttentionIo, AttentionProblem, Element, Mask, NO_KEY, TensorLayout, lengths, ragged_lengths,
    },
    gpu::BufferView,
    reference::{
        attention::{self as twin, AttentionOptions, AttentionShape},
        compare::{Tolerance, compare},
        storage::Storage,
    },
};

use crate::{
    adapters::{TestGpu, on_every_adapter},
    random::Random,
};

/// One test case: a problem and the lengths of its sequences.
struct Case {
    problem: AttentionProblem,
    sequences: Vec<(u32, u32)>, // queries, keys
}

fn case(heads: u32, kv_heads: u32, dim: u32, queries: u32, keys: u32) -> Case {
    Case {
        problem: AttentionProblem::new(heads, kv_heads, dim, queries, keys),
        sequences: vec![(queries, keys)],
    }
}

/// Puts `[batch, token, head, dim]` values where `layout` wants them; the rest is NaN, which must
/// not leak.
fn scatter(
    layout: &TensorLayout,
    values: &[f32],
    [batch, tokens, heads, dim]: [usize; 4],
) -> Vec<u8> {
    let last = (batch - 1) * layout.batch_stride as usize
        + (tokens - 1) * layout.token_stride as usize
        + (heads - 1) * layout.head_stride as usize
        + dim;
    let mut elements = vec![f32::NAN; last];
    for (i, chunk) in values.chunks_exact(dim).enumerate() {
        let (b, t, h) = (i / (tokens * heads), i / heads % tokens, i % heads);
        let at = b * layout.batch_stride as usize
            + t * layout.token_stride as usize
            + h * layout.head_stride as usize;
        elements[at..at + dim].copy_from_slice(chunk);
    }
    match layout.element {
        Element::Bf16 => {
            let halves: Vec<half::bf16> =
                elements.iter().map(|v| half::bf16::from_f32(*v)).collect();
            bytemuck::cast_slice(&halves).to_vec()
        }
        Element::F16 => {
            let halves: Vec<half::f16> = elements.iter().map(|v| half::f16::from_f32(*v)).collect();
            bytemuck::cast_slice(&halves).to_vec()
        }
        _ => bytemuck::cast_slice(&elements).to_vec(),
    }
}

fn gather(
    layout: &TensorLayout,
    bytes: &[u8],
    [batch, tokens, heads, dim]: [usize; 4],
) -> Vec<f32> {
    let elements: Vec<f32> = match layout.element {
        Element::Bf16 => bytemuck::pod_collect_to_vec::<_, half::bf16>(bytes)
            .iter()
            .map(|v| v.to_f32())
            .collect(),
        Element::F16 => bytemuck::pod_collect_to_vec::<_, half::f16>(bytes)
            .iter()
            .map(|v| v.to_f32())
            .collect(),
        _ => bytemuck::pod_collect_to_vec(bytes),
    };
    (0..batch * tokens * heads)
        .flat_map(|i| {
            let (b, t, h) = (i / (tokens * heads), i / heads % tokens, i % heads);
            let at = b * layout.batch_stride as usize
                + t * layout.token_stride as usize
                + h * layout.head_stride as usize;
            elements[at..at + dim].to_vec()
        })
        .collect()
}

fn storage(element: Element) -> Storage {
    match element {
        Element::F16 => Storage::F16,
        Element::Bf16 => Storage::Bf16,
        _ => Storage::F32,
    }
}

/// Output and LSE on the GPU, `[batch, query, head, dim]` and `[batch, query, head]`.
pub fn run(
    gpu: &TestGpu,
    problem: &AttentionProblem,
    sequences: &[(u32, u32)],
    [q, k, v]: [&[f32]; 3],
    tree: Option<&[u32]>,
) -> (Vec<f32>, Vec<f32>) {
    run_biased(gpu, problem, sequences, [q, k, v], tree, None)
}

/// As [`run`], with a bias in the problem's layout. In a ragged batch the tensors are
/// `[token, head, dim]`.
fn run_biased(
    gpu: &TestGpu,
    problem: &AttentionProblem,
    sequences: &[(u32, u32)],
    [q, k, v]: [&[f32]; 3],
    tree: Option<&[u32]>,
    bias: Option<&[f32]>,
) -> (Vec<f32>, Vec<f32>) {
    let p = problem;
    let (batch, queries, keys) = match p.ragged {
        Some(totals) => (1, totals.queries, totals.keys),
        None => (p.batch, p.max_queries, p.max_keys),
    };
    let dims = |tokens: u32, heads: u32, dim: u32| [batch, tokens, heads, dim].map(|n| n as usize);
    let q_dims = dims(queries, p.query_heads, p.head_dim);
    let o_dims = dims(queries, p.query_heads, p.value_dim);
    let gpu_buffer = |label: &str, bytes: &[u8]| gpu.gpu.storage_with(label, bytes).unwrap();
    let query = gpu_buffer("q", &scatter(&p.query, q, q_dims));
    let key = gpu_buffer("k", &scatter(&p.key, k, dims(keys, p.kv_heads, p.head_dim)));
    let value = gpu_buffer(
        "v",
        &scatter(&p.value, v, dims(keys, p.kv_heads, p.value_dim)),
    );
    let zeros = vec![0.0; o_dims.iter().product()];
    let output = gpu_buffer("o", &scatter(&p.output, &zeros, o_dims));
    let rows = u64::from(p.batch * p.max_queries * p.query_heads);
    let lse = gpu.gpu.storage("lse", rows * 4).unwrap();
    let words = match p.ragged {
        Some(_) => ragged_lengths(sequences),
        None => lengths(sequences),
    };
    let lengths = gpu
        .gpu
        .storage_with("lengths", words.as_flattened())
        .unwrap();
    let tree = tree.map(|words| gpu.gpu.storage_with("tree", words).unwrap());
    let bias = bias.map(|values| gpu.gpu.storage_with("bias", values).unwrap());
    let prepared = pollster::block_on(gpu.gpu.plan_attention(p).unwrap().prepare()).unwrap();
    let workspace = prepared.workspace().unwrap();
    let io = AttentionIo {
        query: BufferView::whole(&query),
        key: BufferView::whole(&key),
        value: BufferView::whole(&value),
        output: BufferView::whole(&output),
        lse: p.lse.then(|| BufferView::whole(&lse)),
        lengths: BufferView::whole(&lengths),
        tree: tree.as_ref().map(BufferView::whole),
        bias: bias.as_ref().map(BufferView::whole),
    };
    let attention = prepared.bind(&workspace, &io).unwrap();
    gpu.run(|pass| attention.encode(pass, p.max_queries, p.max_keys));
    let bytes: Vec<u8> = gpu.read(&output);
    (gather(&p.output, &bytes, o_dims), gpu.read(&lse))
}

fn check(gpu: &TestGpu, case: &Case, seed: u64) {
    check_masked(gpu, case, seed, None, None);
}

fn check_masked(
    gpu: &TestGpu,
    Case { problem, sequences }: &Case,
    seed: u64,
    visible: Option<&dyn Fn(usize, usize, usize) -> bool>,
    tree: Option<&[u32]>,
) {
    let mut random = Random(seed);
    let p = problem;
    let shape = AttentionShape {
        batch: p.batch as usize,
        query_heads: p.query_heads as usize,
        kv_heads: p.kv_heads as usize,
        queries: p.max_queries as usize,
        keys: p.max_keys as usize,
        head_dim: p.head_dim as usize,
        value_dim: p.value_dim as usize,
    };
    let rows = shape.batch * shape.queries * shape.query_heads;
    let kv_rows = shape.batch * shape.keys * shape.kv_heads;
    let round = |element: Element, values: Vec<f32>| -> Vec<f32> {
        values
            .iter()
            .map(|v| storage(element).round(f64::from(*v)) as f32)
            .collect()
    };
    let q = round(p.query.element, random.normals(rows * shape.head_dim));
    let mut k = round(p.key.element, random.normals(kv_rows * shape.head_dim));
    let mut v = round(p.value.element, random.normals(kv_rows * shape.value_dim));
    // Strides of a bias may be 0: its values are drawn for the buffer and read through them.
    let bias_buffer: Option<Vec<f32>> = p.bias.map(|layout| {
        let last = (p.batch - 1) * layout.batch_stride
            + (p.query_heads - 1) * layout.head_stride
            + (p.max_queries - 1) * layout.query_stride
            + p.max_keys;
        let mut values = random.normals(last as usize);
        values
            .iter_mut()
            .step_by(7)
            .for_each(|v| *v = f32::NEG_INFINITY);
        values
    });
    let (output, lse) = {
        // What lies past a sequence's keys is NaN on the GPU and must not leak.
        let (mut k_nan, mut v_nan) = (k.clone(), v.clone());
        for (b, (_, keys)) in sequences.iter().enumerate() {
            let from = (b * shape.keys + *keys as usize) * shape.kv_heads;
            let to = (b + 1) * shape.keys * shape.kv_heads;
            k_nan[from * shape.head_dim..to * shape.head_dim].fill(f32::NAN);
            v_nan[from * shape.value_dim..to * shape.value_dim].fill(f32::NAN);
        }
        let bias = bias_buffer.as_deref();
        run_biased(gpu, p, sequences, [&q, &k_nan, &v_nan], tree, bias)
    };
    // The twin takes one sequence at a time, with its own lengths.
    for (b, (queries, keys)) in sequences
        .iter()
        .map(|(q, k)| (*q as usize, *k as usize))
        .enumerate()
    {
        let one = AttentionShape {
            batch: 1,
            queries,
            keys,
            ..shape
        };
        let q_at = b * shape.queries * shape.query_heads;
        let kv_at = b * shape.keys * shape.kv_heads;
        let q_rows = queries * shape.query_heads;
        let kv_rows = keys * shape.kv_heads;
        let seen = visible.map(|f| move |_: usize, query: usize, key: usize| f(b, query, key));
        let prefixed = |_: usize, query: usize, key: usize| {
            let Mask::Prefix { keys: prefix } = p.mask else {
                return false;
            };
            key < prefix as usize || key + queries <= query + keys
        };
        let mask = match (&seen, p.mask) {
            (Some(f), _) => twin::Mask::Visible(f),
            (None, Mask::None) => twin::Mask::None,
            (None, Mask::Prefix { .. }) => twin::Mask::Visible(&prefixed),
            _ => twin::Mask::Causal,
        };
        let wide = |values: &Option<Vec<f32>>| -> Option<Vec<f64>> {
            Some(values.as_ref()?.iter().map(|v| f64::from(*v)).collect())
        };
        let (slopes, sinks) = (wide(&p.alibi_slopes), wide(&p.sinks));
        let bias: Option<Vec<f64>> = bias_buffer.as_ref().zip(p.bias).map(|(values, layout)| {
            let mut dense = Vec::new(); // [query_head, query, key]
            for head in 0..shape.query_heads {
                for query in 0..queries {
                    let at = b * layout.batch_stride as usize
                        + head * layout.head_stride as usize
                        + query * layout.query_stride as usize;
                    dense.extend(values[at..at + keys].iter().map(|v| f64::from(*v)));
                }
            }
            dense
        });
        let options = AttentionOptions {
            scale: Some(f64::from(p.scale)),
            mask,
            softcap: p.softcap.map(f64::from),
            window: p.window.map(|window| window as usize),
            alibi_slopes: slopes.as_deref(),
            sinks: sinks.as_deref(),
            bias: bias.as_deref(),
            ..Default::default()
        };
        let (dk, dv) = (shape.head_dim, shape.value_dim);
        let q = &q[q_at * dk..][..q_rows * dk];
        let k = &mut k[kv_at * dk..][..kv_rows * dk];
        let v = &mut v[kv_at * dv..][..kv_rows * dv];
        let expected = twin::attention(&one, q, k, v, &options).unwrap();
        let what = format!("{}: {p:?} {sequences:?} sequence {b}", gpu.name);
        let tolerance = match p.output.element {
            Element::F16 | Element::Bf16 => {
                let naive =
                    twin::naive_attention(&one, q, k, v, &options, storage(p.output.element))
                        .unwrap();
                Tolerance::twice_naive(&naive.output, &expected.output)
            }
            _ => Tolerance::F32,
        };
        let got = &output[q_at * dv..][..q_rows * dv];
        compare(&what, got, &expected.output, tolerance).unwrap();
        if p.lse {
            let got: Vec<f32> = lse[q_at..][..q_rows]
                .iter()
                .map(|v| if *v == NO_KEY { f32::NEG_INFINITY } else { *v })
                .collect();
            compare(&format!("{what} LSE"), &got, &expected.lse, Tolerance::F32).unwrap();
        }
    }
}

#[test]
fn heads_and_groups_of_every_size() {
    on_every_adapter(|gpu| {
        for (heads, kv_heads) in [(1, 1), (3, 1), (9, 3), (4, 4), (8, 1), (12, 1)] {
            for queries in [1, 2, 5] {
                check(gpu, &case(heads, kv_heads, 64, queries, 70), 1);
            }
        }
    });
}

#[test]
fn head_sizes_with_tails() {
    on_every_adapter(|gpu| {
        for dim in [4, 32, 40, 80, 128, 256] {
            check(gpu, &case(2, 1, dim, 3, 37), 2);
        }
        let mut odd = case(2, 1, 64, 3, 37);
        odd.problem.value_dim = 20;
        odd.problem.value = TensorLayout::token_major(Element::F32, 37, 1, 20);
        odd.problem.output = TensorLayout::token_major(Element::F32, 3, 2, 20);
        check(gpu, &odd, 3);
    });
}

#[test]
fn key_counts_around_tiles_and_spans() {
    on_every_adapter(|gpu| {
        for keys in [1, 7, 8, 9, 31, 33, 255, 256, 257, 600] {
            check(gpu, &case(3, 1, 32, 1, keys), 4);
        }
        check(gpu, &case(3, 1, 32, 75, 300), 5);
    });
}

#[test]
fn storage_types_in_any_mix() {
    on_every_adapter(|gpu| {
        for mix in 0..9 {
            // Every pair of types meets in query and key, and in key and output.
            let [query, key, value, output] =
                [mix, mix / 3, 2 * mix, mix / 3 + mix].map(|i| Element::ALL[i % 3]);
            let mut mixed = case(6, 2, 40, 3, 50);
            let p = &mut mixed.problem;
            p.query.element = query;
            p.key.element = key;
            p.value.element = value;
            p.output.element = output;
            check(gpu, &mixed, 6);
        }
    });
}

#[test]
fn unmasked_attention_has_more_keys_or_fewer_than_queries() {
    on_every_adapter(|gpu| {
        for (queries, keys) in [(4, 50), (20, 3)] {
            let mut none = case(4, 2, 32, queries, keys);
            none.problem.mask = Mask::None;
            none.problem.lse = true;
            check(gpu, &none, 7);
        }
    });
}

#[test]
fn prompts_of_many_rows_take_the_prefill_kernel() {
    on_every_adapter(|gpu| {
        // Tails in rows, keys, head and value; fewer keys than queries; several sequences.
        for (heads, kv_heads, dim, queries, keys) in [
            (9, 3, 64, 40, 40),
            (2, 1, 40, 70, 131),
            (4, 4, 128, 65, 97),
            (3, 1, 20, 33, 9),
        ] {
            let mut many = case(heads, kv_heads, dim, queries, keys);
            many.problem.lse = true;
            let explained = gpu.gpu.plan_attention(&many.problem).unwrap().explain();
            let hardware = gpu.name.contains("hardware");
            assert_eq!(
                explained.contains("attention/prefill"),
                hardware,
                "{explained}"
            );
            check(gpu, &many, 40);
            many.problem.mask = Mask::None;
            check(gpu, &many, 41);
        }
        let mut batch = case(6, 2, 36, 50, 90);
        batch.problem.batch = 2;
        batch.problem.value_dim = 72;
        batch.problem.value = TensorLayout::head_major(Element::F16, 90, 2, 72);
        batch.problem.output = TensorLayout::token_major(Element::F16, 50, 6, 72);
        batch.sequences = vec![(50, 90), (13, 33)];
        check(gpu, &batch, 42);
    });
}

#[test]
fn fully_masked_row_gives_zero_and_no_lse() {
    on_every_adapter(|gpu| {
        // Bottom-right causal with fewer keys than queries: the first queries see nothing.
        let mut masked = case(4, 2, 32, 10, 3);
        masked.problem.lse = true;
        check(gpu, &masked, 8);
    });
}

#[test]
fn padded_batch_of_different_lengths_leaks_nothing() {
    on_every_adapter(|gpu| {
        let mut batch = case(6, 2, 32, 4, 300);
        let p = &mut batch.problem;
        p.batch = 3;
        p.lse = true;
        // Head-major keys with a gap after each head and sequence: strided views.
        p.key.head_stride = 300 * 32 + 8;
        p.key.token_stride = 32;
        p.key.batch_stride = 2 * p.key.head_stride + 12;
        batch.sequences = vec![(4, 300), (1, 1), (2, 257)];
        check(gpu, &batch, 9);
    });
}

#[test]
fn draft_tree_sees_ancestors_only() {
    use sunfleck::tree::{DraftTree, DrawKind};
    on_every_adapter(|gpu| {
        // Forty nodes: the ancestor sets take two words.
        let mut random = Random(77);
        let mut parents: Vec<u32> = (0..40).map(|i: u32| random.below(i.max(1))).collect();
        parents[0] = sunfleck::tree::NONE;
        let tokens: Vec<u32> = (0..40).collect();
        let tree = DraftTree::from_parents(tokens, parents.clone(), DrawKind::TopK).unwrap();
        let (nodes, past) = (40, 260);
        let mut tree_case = case(6, 2, 32, nodes, past + nodes);
        tree_case.problem.mask = Mask::Tree { max_nodes: 64 };
        let mut words = vec![0; sunfleck::tree::blob_words(64)];
        tree.write_blob(64, &mut words).unwrap();
        let visible = |_: usize, query: usize, key: usize| {
            let Some(node) = key.checked_sub(past as usize) else {
                return true;
            };
            let mut at = query;
            while at > node {
                at = parents[at] as usize;
            }
            at == node
        };
        check_masked(gpu, &tree_case, 10, Some(&visible), Some(&words));
    });
}

#[test]
fn large_flat_and_lonely_scores_stay_exact() {
    on_every_adapter(|gpu| {
        let p = AttentionProblem::new(1, 1, 32, 1, 300);
        let v: Vec<f32> = (0..300 * 32).map(|i| (i / 32) as f32).collect();
        let q = vec![1.0; 32];
        // All scores equal: the mean of the values.
        let flat = vec![0.25; 300 * 32];
        let (o, _) = run(gpu, &p, &[(1, 300)], [&q, &flat, &v], None);
        compare(&gpu.name, &o, &[149.5; 32], Tolerance::F32).unwrap();
        // One huge key among scores of -1e4: its value alone.
        let mut lonely = vec![-1767.0; 300 * 32]; // score = 32 * -1767 / sqrt(32) = -9995
        lonely[123 * 32..124 * 32].fill(1767.0);
        let (o, _) = run(gpu, &p, &[(1, 300)], [&q, &lonely, &v], None);
        compare(&gpu.name, &o, &[123.0; 32], Tolerance::F32).unwrap();
        // Subnormal scores: still the mean.
        let tiny = vec![1e-40; 300 * 32];
        let (o, _) = run(gpu, &p, &[(1, 300)], [&q, &tiny, &v], None);
        compare(&gpu.name, &o, &[149.5; 32], Tolerance::F32).unwrap();
    });
}

/// Both kernels: few rows, and enough for the prefill kernel.
fn check_few_and_many(gpu: &TestGpu, change: impl Fn(&mut AttentionProblem), seed: u64) {
    for (heads, kv_heads, dim, queries, keys) in [(6, 2, 32, 3, 270), (3, 1, 40, 40, 75)] {
        let mut changed = case(heads, kv_heads, dim, queries, keys);
        changed.problem.lse = true;
        change(&mut changed.problem);
        check(gpu, &changed, seed);
    }
}

#[test]
fn sliding_windows_of_any_width() {
    on_every_adapter(|gpu| {
        for window in [1, 5, 33, 1000] {
            check_few_and_many(gpu, |p| p.window = Some(window), 50);
        }
        check_few_and_many(
            gpu,
            |p| {
                p.window = Some(9);
                p.mask = Mask::None;
            },
            51,
        );
    });
}

#[test]
fn a_prefix_is_visible_to_every_query() {
    on_every_adapter(|gpu| {
        for keys in [0, 1, 60, 5000] {
            check_few_and_many(gpu, |p| p.mask = Mask::Prefix { keys }, 52);
        }
    });
}

#[test]
fn softcap_alibi_and_sinks_alone_and_together() {
    on_every_adapter(|gpu| {
        let slopes = |p: &AttentionProblem| -> Vec<f32> {
            (0..p.query_heads)
                .map(|head| 0.5f32.powi(head as i32))
                .collect()
        };
        let sinks = |p: &AttentionProblem| -> Vec<f32> {
            (0..p.query_heads).map(|head| head as f32 - 1.5).collect()
        };
        check_few_and_many(gpu, |p| p.softcap = Some(0.7), 53);
        check_few_and_many(gpu, |p| p.alibi_slopes = Some(slopes(p)), 54);
        check_few_and_many(gpu, |p| p.sinks = Some(sinks(p)), 55);
        check_few_and_many(
            gpu,
            |p| {
                p.softcap = Some(2.0);
                p.alibi_slopes = Some(slopes(p));
                p.sinks = Some(sinks(p));
                p.window = Some(20);
            },
            56,
        );
    });
}

#[test]
fn a_fully_masked_row_with_a_sink_has_output_zero_and_the_sink_as_lse() {
    on_every_adapter(|gpu| {
        for queries in [10, 70] {
            let mut masked = case(4, 2, 32, queries, 3);
            masked.problem.lse = true;
            masked.problem.sinks = Some(vec![0.25; 4]);
            check(gpu, &masked, 57);
        }
    });
}

#[test]
fn a_bias_may_broadcast_over_batch_heads_and_queries() {
    use sunfleck::attention::BiasLayout;
    on_every_adapter(|gpu| {
        for (batch_stride, head_stride, query_stride) in [
            (0, 0, 0),
            (0, 300, 0),
            (0, 0, 300),
            (3 * 6 * 300, 3 * 300, 300),
        ] {
            let mut biased = case(6, 2, 32, 3, 290);
            biased.problem.batch = 2;
            biased.problem.lse = true;
            biased.sequences = vec![(3, 290), (2, 50)];
            biased.problem.bias = Some(BiasLayout {
                batch_stride,
                head_stride,
                query_stride,
            });
            check(gpu, &biased, 58);
        }
        let dense = |p: &mut AttentionProblem| {
            p.mask = Mask::None;
            p.bias = Some(BiasLayout {
                batch_stride: 0,
                head_stride: p.max_queries * p.max_keys,
                query_stride: p.max_keys,
            });
        };
        check_few_and_many(gpu, dense, 59);
    });
}

#[test]
fn a_tree_measures_distance_by_depth() {
    use sunfleck::tree::{DraftTree, DrawKind, NONE};
    on_every_adapter(|gpu| {
        // Two branches of three: slots 1 2 3 and 4 5 6, depths 1 2 3 and 1 2 3.
        let parents = vec![NONE, 0, 1, 2, 0, 4, 5];
        let depths = [0i64, 1, 2, 3, 1, 2, 3];
        let tree = DraftTree::from_parents((0..7).collect(), parents, DrawKind::TopK).unwrap();
        let blob = tree.blob(8).unwrap();
        let (past, nodes, window) = (20usize, 7usize, 5i64);
        let mut windowed = case(2, 1, 32, nodes as u32, (past + nodes) as u32);
        windowed.problem.mask = Mask::Tree { max_nodes: 8 };
        windowed.problem.window = Some(window as u32);
        // As a closure the twin can't know depths, so the window is part of it.
        let visible = |_: usize, query: usize, key: usize| {
            let own = past as i64 + depths[query];
            match key.checked_sub(past) {
                None => own - (key as i64) < window,
                Some(node) => tree.sees(query, node) && own - past as i64 - depths[node] < window,
            }
        };
        let inputs = {
            let mut random = Random(60);
            [7 * 2 * 32, 27 * 32, 27 * 32].map(|n| random.normals(n))
        };
        let [q, k, v] = inputs.each_ref().map(|values| values.as_slice());
        let (got, _) = run(
            gpu,
            &windowed.problem,
            &windowed.sequences,
            [q, k, v],
            Some(&blob),
        );
        let shape = AttentionShape {
            batch: 1,
            query_heads: 2,
            kv_heads: 1,
            queries: nodes,
            keys: past + nodes,
            head_dim: 32,
            value_dim: 32,
        };
        let options = AttentionOptions {
            mask: twin::Mask::Visible(&visible),
            ..Default::default()
        };
        let expected = twin::attention(&shape, q, k, v, &options).unwrap();
        compare(&gpu.name, &got, &expected.output, Tolerance::F32).unwrap();
    });
}

#[test]
fn a_ragged_batch_has_the_bits_of_its_sequences_alone() {
    use sunfleck::attention::RaggedTotals;
    on_every_adapter(|gpu| {
        let (heads, kv_heads, dim) = (4usize, 2usize, 32usize);
        let sequences = [(3u32, 40u32), (1, 7), (5, 300)];
        let totals = RaggedTotals {
            queries: 9,
            keys: 347,
        };
        let mut random = Random(61);
        let q = random.normals(9 * heads * dim);
        let k = random.normals(347 * kv_heads * dim);
        let v = random.normals(347 * kv_heads * dim);
        let mut ragged = AttentionProblem::new(heads as u32, kv_heads as u32, dim as u32, 5, 300);
        ragged.batch = 3;
        ragged.ragged = Some(totals);
        let (together, _) = run(gpu, &ragged, &sequences, [&q, &k, &v], None);
        let (mut q_at, mut k_at) = (0, 0);
        for (queries, keys) in sequences {
            let one =
                AttentionProblem::new(heads as u32, kv_heads as u32, dim as u32, queries, keys);
            let (q_len, k_len) = (
                queries as usize * heads * dim,
                keys as usize * kv_heads * dim,
            );
            let inputs = [
                &q[q_at..][..q_len],
                &k[k_at..][..k_len],
                &v[k_at..][..k_len],
            ];
            let (alone, _) = run(gpu, &one, &[(queries, keys)], inputs, None);
            assert_eq!(together[q_at..][..q_len], alone, "{}", gpu.name);
            q_at += q_len;
            k_at += k_len;
        }
    });
}

#[test]
fn every_wrong_problem_is_a_typed_error() {
    use sunfleck::attention::{AttentionError as E, RaggedTotals};
    on_every_adapter(|gpu| {
        let refused = |change: &dyn Fn(&mut AttentionProblem)| {
            let mut p = AttentionProblem::new(4, 2, 64, 8, 100);
            change(&mut p);
            gpu.gpu.plan_attention(&p).err()
        };
        assert!(refused(&|_| ()).is_none());
        assert!(matches!(
            refused(&|p| p.batch = 0),
            Some(E::Zero { name: "batch" })
        ));
        assert!(matches!(
            refused(&|p| p.kv_heads = 3),
            Some(E::HeadGroups { .. })
        ));
        assert!(matches!(
            refused(&|p| p.head_dim = 66),
            Some(E::HeadDim { dim: 66, .. })
        ));
        assert!(matches!(
            refused(&|p| p.value_dim = 260),
            Some(E::HeadDim { dim: 260, .. })
        ));
        assert!(matches!(
            refused(&|p| p.key.token_stride = 30),
            Some(E::Stride { .. })
        ));
        assert!(matches!(
            refused(&|p| {
                p.batch = u32::MAX;
                p.key.batch_stride = u32::MAX - 3;
            }),
            Some(E::TooLarge { .. })
        ));
        assert!(matches!(
            refused(&|p| p.scale = f32::NAN),
            Some(E::Scale { .. })
        ));
        assert!(matches!(
            refused(&|p| p.softcap = Some(0.0)),
            Some(E::Softcap { .. })
        ));
        assert!(matches!(
            refused(&|p| p.window = Some(0)),
            Some(E::Zero { name: "window" })
        ));
        assert!(matches!(
            refused(&|p| p.sinks = Some(vec![0.0; 3])),
            Some(E::HeadList {
                needed: 4,
                given: 3,
                ..
            })
        ));
        assert!(matches!(
            refused(&|p| p.mask = Mask::Tree { max_nodes: 7 }),
            Some(E::TreeStride { .. })
        ));
        let totals = RaggedTotals {
            queries: 7,
            keys: 100,
        };
        assert!(matches!(
            refused(&|p| p.ragged = Some(totals)),
            Some(E::RaggedTotals { .. })
        ));
    });
}

#[test]
fn every_wrong_argument_is_a_typed_error() {
    use sunfleck::{attention::AttentionError as E, gpu::GpuError as G};
    on_every_adapter(|gpu| {
        let p = AttentionProblem::new(2, 1, 64, 4, 64);
        let prepared = pollster::block_on(gpu.gpu.plan_attention(&p).unwrap().prepare()).unwrap();
        let workspace = prepared.workspace().unwrap();
        let buffer = gpu.gpu.storage("all", 1 << 20).unwrap();
        let other = gpu.gpu.storage("output", 1 << 20).unwrap();
        let view = |offset: u64| BufferView::range(&buffer, offset, 1 << 16);
        // Q, K and V may share a buffer; the output may not share it with what is read.
        let good = AttentionIo {
            query: view(0),
            key: view(1 << 16),
            value: view(2 << 16),
            output: BufferView::whole(&other),
            lse: None,
            lengths: view(3 << 16),
            tree: None,
            bias: None,
        };
        assert!(prepared.bind(&workspace, &good).is_ok());
        let refused = |io: AttentionIo<'_>| prepared.bind(&workspace, &io).err();
        let small = BufferView::range(&other, 0, 16);
        assert!(matches!(
            refused(AttentionIo {
                output: small,
                ..good
            }),
            Some(E::ViewTooSmall { name: "output", .. })
        ));
        assert!(matches!(
            refused(AttentionIo {
                query: BufferView::range(&buffer, 4, 1 << 16),
                ..good
            }),
            Some(E::Gpu(G::View { .. }))
        ));
        assert!(matches!(
            refused(AttentionIo {
                key: BufferView::range(&buffer, 1 << 20, 1 << 16),
                ..good
            }),
            Some(E::Gpu(G::View { .. }))
        ));
        assert!(matches!(
            refused(AttentionIo {
                output: good.value,
                ..good
            }),
            Some(E::Gpu(G::Alias { .. }))
        ));
        assert!(matches!(
            refused(AttentionIo {
                output: view(4 << 16),
                ..good
            }),
            Some(E::Gpu(G::SharedBuffer { .. }))
        ));
        for wrong in [
            refused(AttentionIo {
                lse: Some(good.output),
                ..good
            }),
            refused(AttentionIo {
                tree: Some(good.query),
                ..good
            }),
            refused(AttentionIo {
                bias: Some(good.query),
                ..good
            }),
        ] {
            assert!(matches!(wrong, Some(E::Argument { .. })));
        }
    });
}

#[test]
fn merged_states_equal_attention_over_all_keys() {
    use sunfleck::attention::{MergeStatesIo, MergeStatesProblem};
    on_every_adapter(|gpu| {
        let (heads, dim, queries) = (3usize, 40usize, 4usize);
        // Shares of the keys, one of them empty for every row.
        let shares = [20usize, 0, 300, 7];
        let keys: usize = shares.iter().sum();
        let rows = queries * heads;
        let mut random = Random(70);
        let q = random.normals(rows * dim);
        let k = random.normals(keys * heads * dim);
        let v = random.normals(keys * heads * dim);
        let whole_problem = |keys: usize| {
            let mut p = AttentionProblem::new(
                heads as u32,
                heads as u32,
                dim as u32,
                4,
                keys.max(1) as u32,
            );
            p.mask = Mask::None;
            p.lse = true;
            p
        };
        let (mut outputs, mut lses, mut at) = (Vec::new(), Vec::new(), 0);
        for share in shares {
            if share == 0 {
                // A state without keys may hold anything as its output.
                outputs.extend(vec![f32::NAN; rows * dim]);
                lses.extend(vec![NO_KEY; rows]);
                continue;
            }
            let range = at * heads * dim..(at + share) * heads * dim;
            let inputs = [&q[..], &k[range.clone()], &v[range]];
            let lengths = [(queries as u32, share as u32)];
            let (output, lse) = run(gpu, &whole_problem(share), &lengths, inputs, None);
            outputs.extend(output);
            lses.extend(lse);
            at += share;
        }
        let problem = MergeStatesProblem {
            states: shares.len() as u32,
            rows: rows as u32,
            value_dim: dim as u32,
            element: Element::F32,
        };
        let prepared = pollster::block_on(gpu.gpu.prepare_merge_states(&problem)).unwrap();
        let outputs = gpu.gpu.storage_with("outputs", &outputs).unwrap();
        let lses = gpu.gpu.storage_with("lses", &lses).unwrap();
        let output = gpu.gpu.storage("output", (rows * dim * 4) as u64).unwrap();
        let lse = gpu.gpu.storage("lse", rows as u64 * 4).unwrap();
        let merge = prepared
            .bind(&MergeStatesIo {
                outputs: BufferView::whole(&outputs),
                lses: BufferView::whole(&lses),
                output: BufferView::whole(&output),
                lse: BufferView::whole(&lse),
            })
            .unwrap();
        gpu.run(|pass| merge.encode(pass));
        let shape = AttentionShape {
            batch: 1,
            query_heads: heads,
            kv_heads: heads,
            queries,
            keys,
            head_dim: dim,
            value_dim: dim,
        };
        let options = AttentionOptions::default();
        let expected = twin::attention(&shape, &q, &k, &v, &options).unwrap();
        compare(
            &gpu.name,
            &gpu.read::<f32>(&output),
            &expected.output,
            Tolerance::F32,
        )
        .unwrap();
        compare(
            &gpu.name,
            &gpu.read::<f32>(&lse),
            &expected.lse,
            Tolerance::F32,
        )
        .unwrap();
    });
}

#[test]
fn workspace_does_not_grow_with_queries_times_keys() {
    on_every_adapter(|gpu| {
        let bytes = |queries: u32, keys: u32, invariant: bool| {
            let mut p = AttentionProblem::new(8, 2, 64, queries, keys);
            p.invariant = invariant;
            gpu.gpu.plan_attention(&p).unwrap().workspace_bytes()
        };
        for invariant in [true, false] {
            assert!(bytes(4096, 131_072, invariant) <= 16 << 20);
            assert_eq!(
                bytes(4096, 65_536, invariant),
                bytes(16_384, 65_536, invariant)
            );
            // One query over 256 keys: one state a head.
            assert_eq!(bytes(1, 256, invariant), 8 * (64 + 4) * 4);
        }
    });
}

#[test]
fn queries_take_turns_in_a_workspace_that_is_too_small_for_all() {
    on_every_adapter(|gpu| {
        // A capacity of 64 spans, of which two are used.
        let mut turns = case(48, 1, 64, 30, 16_384);
        turns.problem.invariant = true;
        turns.problem.lse = true;
        let plan = gpu.gpu.plan_attention(&turns.problem).unwrap();
        let one = 48 * (64 + 4) * 4 * 64; // a query's states, in bytes
        assert!(plan.workspace_bytes() < 30 * one, "room for all of them");
        turns.sequences = vec![(30, 270)];
        check(gpu, &turns, 80);
    });
}

#[test]
fn recording_a_call_allocates_no_buffer() {
    on_every_adapter(|gpu| {
        let p = AttentionProblem::new(4, 2, 64, 100, 600);
        let prepared = pollster::block_on(gpu.gpu.plan_attention(&p).unwrap().prepare()).unwrap();
        let workspace = prepared.workspace().unwrap();
        let buffer = |label: &str, bytes: u64| gpu.gpu.storage(label, bytes).unwrap();
        let (query, output) = (buffer("q", 4 * 100 * 64 * 4), buffer("o", 4 * 100 * 64 * 4));
        let (key, value) = (buffer("k", 2 * 600 * 64 * 4), buffer("v", 2 * 600 * 64 * 4));
        let lengths = buffer("lengths", 16);
        let call = prepared
            .bind(
                &workspace,
                &AttentionIo {
                    query: (&query).into(),
                    key: (&key).into(),
                    value: (&value).into(),
                    output: (&output).into(),
                    lengths: (&lengths).into(),
                    lse: None,
                    tree: None,
                    bias: None,
                },
            )
            .unwrap();
        let before = gpu.gpu.allocated_bytes();
        gpu.run(|pass| {
            for queries in [1, 5, 100] {
                call.encode(pass, queries, 600);
            }
        });
        assert_eq!(gpu.gpu.allocated_bytes(), before, "{}", gpu.name);
    });
}
