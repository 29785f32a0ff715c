//! Layers that are larger than a binding: spread over buffers by KV heads, with the bits of a cache in one piece.

use sunfleck::{
    attention::{
        AttentionError, AttentionProblem, BiasLayout, CacheIo, Element, SharedPrefix, TensorLayout,
    },
    cache::{
        Append, AppendIo, AppendShape, CacheError, CacheShape, Commit, KvCache, PageCopies,
        PoolOptions, RopePairs, RopeShape,
    },
    gpu::{BufferView, Gpu},
};

use super::memory::{HALVES, in_small_bindings, layer};
use crate::{
    adapters::{TestGpu, on_every_adapter},
    full,
    random::Random,
};

const SEQUENCES: u32 = 3;
const CAPACITY: u32 = 96;
const ROWS: u32 = 40;
const KV_HEADS: u32 = 5;
const GROUP: u32 = 2;
const HEADS: u32 = KV_HEADS * GROUP;
const DIM: u32 = 40;
const WIDTH: u32 = (HEADS + 2 * KV_HEADS) * DIM;

/// The keys and values of both layers, queries, outputs and LSEs after an append, page copies, attention with
/// `extras`, a cascade and a commit over a cache that is made with `place`.
fn everything(gpu: &TestGpu, place: &Gpu, shape: CacheShape, page: Option<u32>) -> Vec<Vec<u32>> {
    let extras = page.is_none();
    let cache = match page {
        None => KvCache::contiguous(place, shape, SEQUENCES, CAPACITY),
        Some(page_tokens) => {
            let pages = 2 * SEQUENCES * CAPACITY / page_tokens;
            let pool = PoolOptions { page_tokens, pages };
            KvCache::paged(place, shape, SEQUENCES, CAPACITY, pool)
        }
    }
    .unwrap();
    let limit = place.capabilities().limits.max_storage_buffer_binding_size;
    for l in 0..shape.layers {
        let parts = cache.parts(l);
        let heads: Vec<u32> = parts.iter().flat_map(|part| part.heads.clone()).collect();
        assert_eq!(heads, (0..KV_HEADS).collect::<Vec<_>>());
        for part in &parts {
            assert!(part.keys.size <= limit && part.values.size <= limit);
        }
    }
    let mut random = Random(5);
    let x = random.normals((SEQUENCES * ROWS * WIDTH) as usize);
    // The second passes its capacity, the last has few rows.
    let mut steps = vec![[ROWS, 20, 0, 0], [ROWS, 70, 0, 0], [3, 17, 0, 0]];
    let mut list = vec![];
    let upload = |label: &str, bytes: &[u8]| gpu.gpu.storage_with(label, bytes).unwrap();
    if page.is_some() {
        let mut pager = cache.pager().unwrap();
        let first = pager.create().unwrap();
        pager.reserve(&[(first, 20)]).unwrap();
        pager.commit(first, 20).unwrap();
        let ids = [
            first,
            pager.fork(first).unwrap(),
            pager.fork(first).unwrap(),
        ];
        list = pager.reserve(&ids.map(|id| (id, ROWS))).unwrap();
        assert_eq!(list.len(), 2);
        steps = vec![[ROWS, 20, 0, 0], [ROWS - 7, 20, 0, 0], [3, 20, 0, 0]];
        cache.write_page_table(&gpu.gpu, &pager).unwrap();
    }
    let sequences = upload("sequences", bytemuck::cast_slice(&steps));
    let depth = upload(
        "depth",
        bytemuck::cast_slice(&(0..ROWS).collect::<Vec<_>>()),
    );
    let rope = RopeShape {
        rotated: 24,
        pairs: RopePairs::Halves,
    };
    let turns = rope.table(200, 10_000.0, 1.0);
    let table = upload("turns", bytemuck::cast_slice(turns.as_flattened()));
    let xs = [0, 1].map(|_| upload("x", bytemuck::cast_slice(&x)));
    let append_shape = AppendShape {
        query_heads: HEADS,
        rope,
        row_stride: ROWS,
        depth_stride: 0,
        max_rows: ROWS,
    };
    let view = BufferView::whole(&sequences);
    let appends = [0u32, 1].map(|l| {
        let io = AppendIo {
            sequences: view,
            depth: (&depth).into(),
            table: (&table).into(),
            x: (&xs[l as usize]).into(),
        };
        pollster::block_on(Append::new(&gpu.gpu, &cache, l, &append_shape, &io)).unwrap()
    });
    let mut problem =
        AttentionProblem::new(HEADS, KV_HEADS, DIM, ROWS, CAPACITY).with_cache(cache.layout());
    problem.batch = SEQUENCES;
    problem.query = TensorLayout {
        token_stride: WIDTH,
        batch_stride: ROWS * WIDTH,
        ..problem.query
    };
    problem.lse = true;
    problem.sinks = Some((0..HEADS).map(|head| head as f32 * 0.3 - 1.0).collect());
    if extras {
        problem.alibi_slopes = Some((0..HEADS).map(|head| head as f32 * 0.01).collect());
        problem.bias = Some(BiasLayout {
            batch_stride: 0,
            head_stride: CAPACITY,
            query_stride: 0,
        });
    }
    let bias = random.normals((HEADS * CAPACITY) as usize);
    let bias = upload("bias", bytemuck::cast_slice(&bias));
    let rows = u64::from(SEQUENCES * ROWS * HEADS);
    let outputs = [0, 1, 2].map(|_| {
        gpu.gpu
            .storage("output", rows * u64::from(DIM) * 4)
            .unwrap()
    });
    let lses = [0, 1, 2].map(|_| gpu.gpu.storage("lse", rows * 4).unwrap());
    let io = |i: usize| CacheIo {
        query: (&xs[1]).into(),
        output: (&outputs[i]).into(),
        lengths: view,
        lse: Some((&lses[i]).into()),
        bias: extras.then(|| (&bias).into()),
        tree: None,
    };
    // The kernels of many rows and of few, then the cascade.
    let calls = [(0, false), (1, true)].map(|(i, invariant)| {
        problem.invariant = invariant;
        let plan = gpu.gpu.plan_attention(&problem).unwrap();
        let prepared = pollster::block_on(plan.prepare()).unwrap();
        let workspace = prepared.workspace().unwrap();
        assert!(matches!(
            prepared.bind_cache(&workspace, &cache, 2, &io(i)),
            Err(AttentionError::Argument { name: "layer", .. })
        ));
        prepared.bind_cache(&workspace, &cache, 1, &io(i)).unwrap()
    });
    let cascade = page.map(|page| {
        let plan = gpu.gpu.plan_cascade(&problem).unwrap();
        let shared = SharedPrefix {
            tokens: page,
            sequence: 0,
        };
        let prepared = pollster::block_on(plan.prepare()).unwrap();
        prepared.bind_cache(shared, &cache, 1, &io(2)).unwrap()
    });
    let copies = page.map(|_| pollster::block_on(PageCopies::new(&gpu.gpu, &cache)).unwrap());
    let path = [0u32, 2, 3, 7, 12];
    let stride = 2 + path.len();
    let outcome: Vec<u32> = (0..SEQUENCES)
        .flat_map(|sequence| [4 - 2 * sequence, 0].into_iter().chain(path))
        .collect();
    let outcome = upload("outcome", bytemuck::cast_slice(&outcome));
    let commit = Commit::new(
        &gpu.gpu,
        &cache,
        view,
        &outcome,
        stride as u32,
        path.len() as u32,
    );
    let commit = pollster::block_on(commit).unwrap();
    gpu.run(|pass| {
        for append in &appends {
            append.encode(pass, ROWS);
        }
        if let Some(copies) = &copies {
            copies.encode(&gpu.gpu, pass, &list).unwrap();
        }
        for call in &calls {
            call.encode(pass, ROWS, CAPACITY);
        }
        if let Some(cascade) = &cascade {
            cascade.encode(pass, ROWS, CAPACITY);
        }
        commit.encode(pass);
    });
    let mut all = vec![];
    for l in 0..shape.layers {
        for half in HALVES {
            // One piece ends with what aligns the next layer.
            let mut words = layer(gpu, &cache, l, half);
            words.truncate(
                half.row_words(&shape) * KV_HEADS as usize * super::memory::slots(&cache),
            );
            all.push(words);
        }
    }
    all.extend(
        xs.iter()
            .chain(&outputs)
            .chain(&lses)
            .map(|buffer| gpu.read(buffer)),
    );
    all
}

#[test]
fn a_layer_spread_over_buffers_has_the_bits_of_one_in_one_piece() {
    on_every_adapter(|gpu| {
        let cases = [
            (Element::F32, Element::F32, None),
            (Element::Q8, Element::Q4, Some(32)),
            (Element::F16, Element::F16, Some(16)),
            (Element::Q4, Element::Bf16, None),
        ];
        // Each case has its own kernels, and compiling them is most of the time.
        let cases = match (full(), gpu.is_slow() || gpu.compiles_slowly()) {
            (true, _) => &cases[..],
            (false, false) => &cases[..2],
            (false, true) => &[],
        };
        for &(key, value, page) in cases {
            let shape = CacheShape {
                value,
                ..CacheShape::new(2, KV_HEADS, DIM, key)
            };
            let whole = everything(gpu, &gpu.gpu, shape, page);
            let writes_something = |words: &Vec<u32>| words.iter().any(|word| *word != 0);
            assert!(whole[..6].iter().all(writes_something), "{}", gpu.name);
            let slots = SEQUENCES * CAPACITY * if page.is_some() { 2 } else { 1 };
            let row = HALVES.map(|half| half.row_words(&shape) as u64 * 4);
            let head = row[0].max(row[1]) * u64::from(slots);
            // Five heads one at a time; as two, two and one; as three and two.
            for (heads, parts) in [(1, 5), (2, 3), (4, 2)] {
                let place = in_small_bindings(gpu, head * heads + 3);
                let cache = KvCache::contiguous(&place, shape, 1, slots).unwrap();
                assert_eq!(cache.parts(1).len(), parts);
                assert!(cache.keys(1).is_none() && cache.parts(2).is_empty());
                let spread = everything(gpu, &place, shape, page);
                for (i, (one, other)) in whole.iter().zip(&spread).enumerate() {
                    assert!(
                        one == other,
                        "{} {shape:?} page {page:?} in {parts} parts: buffer {i} differs",
                        gpu.name
                    );
                }
            }
            let place = in_small_bindings(gpu, head - 1);
            let refused = KvCache::contiguous(&place, shape, 1, slots).unwrap_err();
            assert!(matches!(refused, CacheError::HeadTooLarge { needed, .. } if needed == head));
        }
    });
}
