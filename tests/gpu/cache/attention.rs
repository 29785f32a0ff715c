//! Append and attention over one cache, as a model uses them.

use sunfleck::{
    attention::{AttentionIo, AttentionProblem, Element, Mask, TensorLayout},
    cache::{
        Append, AppendIo, AppendShape, CacheShape, KvCache, PoolOptions, RopePairs, RopeShape,
    },
    gpu::BufferView,
    reference::{
        attention::{self as twin, AttentionOptions, AttentionShape},
        compare::compare,
    },
};

use crate::{
    adapters::{TestGpu, on_every_adapter},
    random::Random,
};

const HEADS: usize = 6;
const KV_HEADS: usize = 2;
const DIM: usize = 64;
const WIDTH: usize = (HEADS + 2 * KV_HEADS) * DIM;
/// Tokens of each sequence, appended at once.
const LENGTHS: [u32; 3] = [40, 1, 23];
const MAX_ROWS: u32 = 40;

/// Appends a prompt to each sequence and attends to it; returns the output of the longest, one row a head and
/// query, and the same in f64 with nothing rounded.
fn outputs(gpu: &TestGpu, element: Element, page: Option<u32>) -> (Vec<f32>, Vec<f64>) {
    let shape = CacheShape::new(1, KV_HEADS as u32, DIM as u32, element);
    let cache = match page {
        None => KvCache::contiguous(&gpu.gpu, shape, 3, 64).unwrap(),
        Some(page_tokens) => {
            let pool = PoolOptions {
                page_tokens,
                pages: 8,
            };
            let cache = KvCache::paged(&gpu.gpu, shape, 3, 64, pool).unwrap();
            let mut pager = cache.pager().unwrap();
            let ids = LENGTHS.map(|_| pager.create().unwrap());
            for (id, tokens) in ids.into_iter().zip(LENGTHS).rev() {
                pager.reserve(&[(id, tokens)]).unwrap();
            }
            cache.write_page_table(&gpu.gpu, &pager).unwrap();
            cache
        }
    };
    let mut random = Random(99);
    let x = random.normals(3 * MAX_ROWS as usize * WIDTH);
    let words: Vec<[u32; 4]> = LENGTHS.map(|rows| [rows, 0, 0, 0]).to_vec();
    let depths: Vec<u32> = (0..MAX_ROWS).collect();
    let sequences = gpu
        .gpu
        .storage_with("sequences", words.as_flattened())
        .unwrap();
    let depth = gpu.gpu.storage_with("depth", &depths).unwrap();
    let x_buffer = gpu.gpu.storage_with("x", &x).unwrap();
    // No rotation: the twin is attention alone.
    let rope = RopeShape {
        rotated: 0,
        pairs: RopePairs::Interleaved,
    };
    let table = gpu.gpu.storage("turns", 8).unwrap();
    let append_shape = AppendShape {
        query_heads: HEADS as u32,
        rope,
        row_stride: MAX_ROWS,
        depth_stride: 0,
        max_rows: MAX_ROWS,
    };
    let io = AppendIo {
        sequences: BufferView::whole(&sequences),
        depth: BufferView::whole(&depth),
        table: BufferView::whole(&table),
        x: BufferView::whole(&x_buffer),
    };
    let append = pollster::block_on(Append::new(&gpu.gpu, &cache, 0, &append_shape, &io)).unwrap();

    let (heads, kv_heads, dim) = (HEADS as u32, KV_HEADS as u32, DIM as u32);
    let mut problem =
        AttentionProblem::new(heads, kv_heads, dim, MAX_ROWS, 64).with_cache(cache.layout());
    problem.batch = 3;
    problem.invariant = true;
    problem.mask = Mask::Causal;
    problem.query = TensorLayout {
        token_stride: WIDTH as u32,
        batch_stride: MAX_ROWS * WIDTH as u32,
        ..problem.query
    };
    let output = gpu
        .gpu
        .storage("output", u64::from(3 * MAX_ROWS * heads * dim) * 4)
        .unwrap();
    let prepared = pollster::block_on(gpu.gpu.plan_attention(&problem).unwrap().prepare()).unwrap();
    let call = prepared
        .bind(
            &prepared.workspace().unwrap(),
            &AttentionIo {
                query: BufferView::whole(&x_buffer),
                key: cache.keys(0).unwrap(),
                value: cache.values(0).unwrap(),
                output: BufferView::whole(&output),
                lengths: BufferView::whole(&sequences),
                lse: None,
                bias: None,
                tree: None,
                pages: cache.page_table(),
            },
        )
        .unwrap();
    gpu.run(|pass| {
        append.encode(pass, MAX_ROWS);
        call.encode(pass, MAX_ROWS, 64);
    });
    let got: Vec<f32> = gpu.read(&output);

    let tokens = LENGTHS[0] as usize;
    let part = |first: usize, heads: usize| -> Vec<f32> {
        let rows = x.chunks(WIDTH).take(tokens);
        rows.flat_map(|row| row[first * DIM..][..heads * DIM].to_vec())
            .collect()
    };
    let shape = AttentionShape {
        batch: 1,
        query_heads: HEADS,
        kv_heads: KV_HEADS,
        queries: tokens,
        keys: tokens,
        head_dim: DIM,
        value_dim: DIM,
    };
    let options = AttentionOptions {
        mask: twin::Mask::Causal,
        ..Default::default()
    };
    let (q, k, v) = (
        part(0, HEADS),
        part(HEADS, KV_HEADS),
        part(HEADS + KV_HEADS, KV_HEADS),
    );
    let expected = twin::attention(&shape, &q, &k, &v, &options)
        .unwrap()
        .output;
    (got[..tokens * HEADS * DIM].to_vec(), expected)
}

/// Mean square of the error by the mean square of the values.
fn error(got: &[f32], expected: &[f64]) -> f64 {
    let squares = |values: &mut dyn Iterator<Item = f64>| -> f64 { values.map(|v| v * v).sum() };
    let mut differences = got.iter().zip(expected).map(|(g, e)| f64::from(*g) - e);
    squares(&mut differences) / squares(&mut expected.iter().copied())
}

#[test]
fn outputs_are_as_near_to_f64_as_their_storage_allows() {
    on_every_adapter(|gpu| {
        // The bounds that the cache's documentation states for standard normal keys and values.
        for (element, bound) in [
            (Element::F32, 1e-12),
            (Element::F16, 1e-6),
            (Element::Bf16, 5e-5),
            (Element::Q8, 2e-4),
            (Element::Q4, 5e-2),
        ] {
            let (contiguous, expected) = outputs(gpu, element, None);
            let error = error(&contiguous, &expected);
            assert!(error < bound, "{} {element:?}: {error:e}", gpu.name);
            // A bound that nothing could break would say nothing.
            assert!(
                element == Element::F32 || error > bound / 100.0,
                "{} {element:?}: {error:e}",
                gpu.name
            );
            for page in [16, 64] {
                let (paged, _) = outputs(gpu, element, Some(page));
                assert!(
                    paged == contiguous,
                    "{} {element:?}: pages of {page} changed bits",
                    gpu.name
                );
            }
        }
    });
}

#[test]
fn f32_outputs_equal_the_twin() {
    on_every_adapter(|gpu| {
        let (got, expected) = outputs(gpu, Element::F32, Some(16));
        compare(
            &gpu.name,
            &got,
            &expected,
            sunfleck::reference::compare::Tolerance::F32,
        )
        .unwrap();
    });
}
