//! Attention against its twin.

mod batches;
mod errors;
mod extras;
mod limits;
mod masks;
mod memory;
mod shapes;

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

/// Both kernels: few rows, and enough for the prefill kernel.
fn check_few_and_many(gpu: &TestGpu, change: impl Fn(&mut AttentionProblem), seed: u64) {
    for (heads, kv_heads, dim, queries, keys) in [(6, 2, 32, 3, 270), (3, 1, 40, 40, 75)] {
        let mut changed = case(heads, kv_heads, dim, queries, keys);
        changed.problem.lse = true;
        change(&mut changed.problem);
        check(gpu, &changed, seed);
    }
}
