//! Sequences that share a prefix, with the prefix read once, against the same call without sharing.

use sunfleck::{
    attention::{
        AttentionError, AttentionIo, AttentionProblem, Element, Mask, SharedPrefix, TensorLayout,
    },
    cache::{CacheShape, KvCache, PoolOptions},
    gpu::BufferView,
    reference::compare::{Tolerance, compare},
    tree::{DraftTree, DrawKind, NONE, blob_words},
};

use super::memory::HALVES;
use crate::{
    adapters::{TestGpu, on_every_adapter},
    random::Random,
};

const HEADS: u32 = 6;
const KV_HEADS: u32 = 2;
const DIM: u32 = 32;
const SEQUENCES: u32 = 4;
const CAPACITY: u32 = 448;
const NODES: u32 = 30;

/// Output and LSE of the cascade, and of the call without sharing.
fn both(gpu: &TestGpu, queries: u32, tree: bool, sinks: bool) -> [(Vec<f32>, Vec<f32>); 2] {
    let shape = CacheShape::new(1, KV_HEADS, DIM, Element::F32);
    let pool = PoolOptions {
        page_tokens: 16,
        pages: 60,
    };
    let cache = KvCache::paged(&gpu.gpu, shape, SEQUENCES, CAPACITY, pool).unwrap();
    let mut pager = cache.pager().unwrap();
    let root = pager.create().unwrap();
    pager.reserve(&[(root, 300)]).unwrap();
    pager.commit(root, 300).unwrap();
    let mut ids = vec![root];
    // Each goes on from the shared part by another number of tokens; the third has no queries now.
    for _ in 1..SEQUENCES {
        ids.push(pager.fork(root).unwrap());
    }
    let shared = pager.shared_prefix(&ids).unwrap();
    assert_eq!(shared, 288);
    let mut steps = Vec::new();
    for (i, id) in ids.iter().enumerate() {
        let own = [40, 0, 7, 90][i];
        pager.reserve(&[(*id, own)]).unwrap();
        pager.commit(*id, own).unwrap();
        let rows = if i == 2 {
            0
        } else {
            queries - (i as u32 % 2).min(queries - 1)
        };
        pager.reserve(&[(*id, rows)]).unwrap();
        steps.push(pager.step(*id, rows, 0).unwrap());
    }
    cache.write_page_table(&gpu.gpu, &pager).unwrap();
    let mut random = Random(31);
    for half in HALVES {
        let view = match half {
            super::memory::Half::Keys => cache.keys(0).unwrap(),
            super::memory::Half::Values => cache.values(0).unwrap(),
        };
        let values = random.normals((view.size / 4) as usize);
        gpu.gpu
            .queue()
            .write_buffer(view.buffer, view.offset, bytemuck::cast_slice(&values));
    }
    let mut p =
        AttentionProblem::new(HEADS, KV_HEADS, DIM, queries, CAPACITY).with_cache(cache.layout());
    p.batch = SEQUENCES;
    p.lse = true;
    if tree {
        p.mask = Mask::Tree { max_nodes: NODES };
    }
    if sinks {
        p.sinks = Some(vec![0.7; HEADS as usize]);
    }
    // The output has gaps, which must stay.
    p.output = TensorLayout {
        element: Element::F16,
        batch_stride: queries * HEADS * (DIM + 4) + 8,
        token_stride: HEADS * (DIM + 4),
        head_stride: DIM + 4,
    };
    let rows = SEQUENCES * queries * HEADS;
    let q = random.normals((rows * DIM) as usize);
    let query = gpu.gpu.storage_with("q", &q).unwrap();
    let lengths = gpu
        .gpu
        .storage_with("lengths", steps.as_flattened())
        .unwrap();
    let mut blobs = Vec::new();
    for step in &steps {
        let nodes = step[0].max(1);
        let parents = (0..nodes)
            .map(|n| if n == 0 { NONE } else { (n - 1) / 2 })
            .collect();
        let drawn = DraftTree::from_parents((0..nodes).collect(), parents, DrawKind::TopK).unwrap();
        let mut blob = drawn.blob(NODES as usize).unwrap();
        blob.resize(blob_words(NODES as usize), 0);
        blobs.extend(blob);
    }
    let blob = gpu.gpu.storage_with("tree", &blobs).unwrap();
    let words = (SEQUENCES * p.output.batch_stride / 2) as usize;
    let run = |cascade: bool| {
        let output = gpu
            .gpu
            .storage_with("o", &vec![0x3c00_3c00u32; words])
            .unwrap();
        let lse = gpu
            .gpu
            .storage_with("lse", &vec![0.5f32; rows as usize])
            .unwrap();
        let io = AttentionIo {
            query: BufferView::whole(&query),
            key: cache.keys(0).unwrap(),
            value: cache.values(0).unwrap(),
            output: BufferView::whole(&output),
            lse: Some(BufferView::whole(&lse)),
            lengths: BufferView::whole(&lengths),
            bias: None,
            tree: tree.then(|| BufferView::whole(&blob)),
            pages: cache.page_table(),
        };
        if cascade {
            let plan = gpu.gpu.plan_cascade(&p).unwrap();
            let prepared = pollster::block_on(plan.prepare()).unwrap();
            // Sequence 3 has the prefix as well as any.
            let shared = SharedPrefix {
                tokens: shared,
                sequence: 3,
            };
            let call = prepared.bind(shared, &io).unwrap();
            gpu.run(|pass| call.encode(pass, queries, CAPACITY));
        } else {
            let prepared =
                pollster::block_on(gpu.gpu.plan_attention(&p).unwrap().prepare()).unwrap();
            let call = prepared.bind(&prepared.workspace().unwrap(), &io).unwrap();
            gpu.run(|pass| call.encode(pass, queries, CAPACITY));
        }
        let output: Vec<half::f16> = gpu.read(&output);
        (output.iter().map(|v| v.to_f32()).collect(), gpu.read(&lse))
    };
    [run(true), run(false)]
}

#[test]
fn a_shared_prefix_read_once_gives_what_each_sequence_would_read() {
    on_every_adapter(|gpu| {
        // Few rows, and enough for a prefill kernel over the prefix.
        for (queries, tree, sinks) in [(1, false, false), (5, true, true), (30, false, true)] {
            let [(output, lse), (expected, expected_lse)] = both(gpu, queries, tree, sinks);
            let name = format!("{} {queries} queries tree {tree}", gpu.name);
            let wide =
                |values: &[f32]| -> Vec<f64> { values.iter().map(|v| f64::from(*v)).collect() };
            compare(&name, &lse, &wide(&expected_lse), Tolerance::F32).unwrap();
            // Both round to f16, so they may be a unit apart.
            for (got, expected) in output.iter().zip(&expected) {
                assert!(
                    (got - expected).abs() <= 2e-3 * expected.abs().max(0.05),
                    "{name}: {got} {expected}"
                );
            }
            let same = output.iter().zip(&expected).filter(|(a, b)| a == b).count();
            assert!(
                same * 10 > output.len() * 9,
                "{name}: {same} of {}",
                output.len()
            );
        }
    });
}

#[test]
fn cascades_of_what_they_do_not_compute_are_refused() {
    on_every_adapter(|gpu| {
        let shape = CacheShape::new(1, 2, 32, Element::F32);
        let pool = PoolOptions {
            page_tokens: 16,
            pages: 8,
        };
        let cache = KvCache::paged(&gpu.gpu, shape, 2, 64, pool).unwrap();
        let base = || {
            let mut p = AttentionProblem::new(4, 2, 32, 3, 64).with_cache(cache.layout());
            p.batch = 2;
            p
        };
        let refused = |change: &dyn Fn(&mut AttentionProblem)| {
            let mut p = base();
            change(&mut p);
            match gpu.gpu.plan_cascade(&p) {
                Ok(_) => None,
                Err(AttentionError::Cascade { reason }) => Some(reason.to_owned()),
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(refused(&|_| ()), None);
        for (change, word) in [
            (
                &(|p: &mut AttentionProblem| p.pages = None) as &dyn Fn(&mut AttentionProblem),
                "pages",
            ),
            (&|p| p.window = Some(9), "window"),
            (&|p| p.alibi_slopes = Some(vec![0.1; 4]), "ALiBi"),
            (&|p| p.bias = Some(Default::default()), "bias"),
            (&|p| p.query.batch_stride += 128, "gaps"),
        ] {
            let reason = refused(change).unwrap_or_default();
            assert!(reason.contains(word), "{word}: {reason}");
        }
        assert!(
            gpu.gpu
                .plan_cascade(&base())
                .unwrap()
                .explain()
                .contains("merge_prefix")
        );
    });
}
