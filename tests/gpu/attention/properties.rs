//! Random problems, shrunk to the smallest that fails.
//!
//! The same in every run, so that a failure is a change's own; `SUNFLECK_SEED=<number>` draws
//! others.

use std::cell::Cell;

use proptest::{
    option,
    prelude::*,
    sample,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};
use sunfleck::{
    attention::{AttentionError, BiasLayout, RaggedTotals, lengths},
    gpu::Gpu,
    variants, wgpu,
};

use super::{
    recipe::{BiasKind, MaskKind, Placement, Recipe},
    *,
};
use crate::{adapters, full};

fn runner(cases: u32) -> TestRunner {
    let seed = std::env::var("SUNFLECK_SEED").map_or(1, |seed| seed.parse().unwrap());
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 300,
        ..Config::default()
    };
    let bytes: Vec<u8> = (0..4u64).flat_map(|i| (seed + i).to_le_bytes()).collect();
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

fn dim() -> impl Strategy<Value = u32> {
    (1u32..=64).prop_map(|quads| quads * 4)
}

fn float() -> impl Strategy<Value = Element> {
    sample::select(Element::FLOATS.to_vec())
}

fn element() -> impl Strategy<Value = Element> {
    sample::select(Element::ALL.to_vec())
}

/// Any valid problem of a few million operations.
fn recipe() -> impl Strategy<Value = Recipe> {
    let heads = (dim(), dim(), 1u32..=32, 1u32..=3);
    let sequences = prop::collection::vec((0u32..=40, 0u32..=600), 1..=3);
    let memory = (
        (0u32..=3, 0u32..=300),
        any::<bool>(),
        sample::select(vec![
            Placement::TokenMajor,
            Placement::HeadMajor,
            Placement::Gaps,
            Placement::Permuted,
            Placement::Joined,
            Placement::Paged(16),
            Placement::Paged(128),
        ]),
    );
    let mask = (
        sample::select(vec![
            MaskKind::None,
            MaskKind::Causal,
            MaskKind::Prefix,
            MaskKind::Tree,
        ]),
        option::of(1u32..=400),
    );
    let bias = sample::select(vec![
        BiasKind::None,
        BiasKind::Shared,
        BiasKind::Heads,
        BiasKind::Dense,
    ]);
    let scores = (option::of(0.5f32..30.0), any::<bool>(), bias);
    let ends = (any::<bool>(), any::<bool>());
    let calls = (any::<bool>(), any::<bool>(), any::<u64>());
    let elements = (float(), element(), element(), float());
    (
        heads, sequences, memory, mask, scores, ends, elements, calls,
    )
        .prop_map(
            |(heads, mut sequences, memory, mask, mut scores, ends, elements, calls)| {
                if matches!(memory.2, Placement::Paged(_)) && mask.0 == MaskKind::Tree {
                    scores.2 = BiasKind::None; // three tables are refused
                }
                if mask.0 == MaskKind::Tree {
                    // Its nodes are among the keys.
                    sequences.iter_mut().for_each(|s| s.1 += s.0);
                }
                Recipe {
                    head_dim: heads.0,
                    value_dim: heads.1,
                    group: heads.2,
                    kv_heads: heads.3,
                    sequences,
                    spare: memory.0,
                    ragged: memory.1,
                    placement: memory.2,
                    mask: mask.0,
                    window: mask.1,
                    softcap: scores.0,
                    alibi: scores.1,
                    bias: scores.2,
                    sinks: ends.0,
                    lse: ends.1,
                    elements: elements.into(),
                    invariant: calls.0,
                    tight: calls.1,
                    seed: calls.2,
                }
            },
        )
}

#[test]
fn random_problems_equal_the_twin() {
    for gpu in adapters::all() {
        // Each case compiles two kernels or three.
        let cases = match (full(), gpu.compiles_slowly() || gpu.is_slow()) {
            (true, false) => 150,
            (true, true) => 30,
            (false, false) => 4,
            (false, true) => 2,
        };
        let result = runner(cases).run(&recipe(), |recipe| {
            prop_assume!(recipe.work() < 30_000_000 && recipe.largest_buffer() < 64 << 20);
            let verified = recipe.case().verify(&gpu.afresh(), recipe.seed);
            verified.map_err(TestCaseError::fail)
        });
        if let Err(error) = result {
            panic!("{}: {error}", gpu.name);
        }
    }
}

/// Numbers at the edges of u32 as well as small ones.
fn any_size() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => 0u32..=9,
        2 => (0u32..=80).prop_map(|quads| quads * 4),
        2 => any::<u32>(),
        1 => sample::select(vec![65_535, 65_536, 1 << 20, 1 << 31, u32::MAX - 3, u32::MAX]),
    ]
}

fn any_float() -> impl Strategy<Value = f32> {
    prop_oneof![0.1f32..2.0, any::<f32>()]
}

/// A valid problem in which a few fields hold anything.
fn any_problem() -> impl Strategy<Value = AttentionProblem> {
    let edit = (0usize..24, any_size(), any_float());
    let edits = prop::collection::vec(edit, 0..=5);
    (recipe(), edits).prop_map(|(recipe, edits)| {
        let mut p = recipe.case().problem;
        for (field, size, float) in edits {
            match field {
                0 => p.batch = size,
                1 => p.query_heads = size,
                2 => p.kv_heads = size,
                3 => p.head_dim = size,
                4 => p.value_dim = size,
                5 => p.max_queries = size,
                6 => p.max_keys = size,
                7 => p.mask = Mask::Prefix { keys: size },
                8 => p.mask = Mask::Tree { max_nodes: size },
                9 => p.window = Some(size),
                10 => p.scale = float,
                11 => p.softcap = Some(float),
                12 => p.alibi_slopes = Some(vec![float; size as usize % 300]),
                13 => p.sinks = Some(vec![float; p.query_heads.min(300) as usize]),
                14 => {
                    let (queries, keys) = (size, size.wrapping_mul(3));
                    p.ragged = Some(RaggedTotals { queries, keys });
                }
                15 => p.bias.get_or_insert_default().batch_stride = size,
                16 => p.bias.get_or_insert_default().head_stride = size,
                17 => p.bias.get_or_insert_default().query_stride = size,
                // A stride of 0 lets any number of sequences, tokens or heads share elements.
                18..=20 => {
                    let tensors = [&mut p.query, &mut p.key, &mut p.value, &mut p.output];
                    for layout in tensors {
                        match field {
                            18 => layout.batch_stride = 0,
                            19 => layout.token_stride = 0,
                            _ => layout.head_stride = 0,
                        }
                    }
                }
                21 => p.query.token_stride = size,
                22 => p.key.batch_stride = size,
                _ => p.value.head_stride = size,
            }
        }
        p
    })
}

/// A device that computes nothing, once for each capability profile.
fn idle_gpus() -> Vec<Gpu> {
    let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    let profiles = variants::profiles().into_iter();
    let gpus = profiles.map(|(_, profile)| Gpu::with_capabilities(&device, &queue, profile));
    gpus.collect()
}

#[test]
fn random_wrong_problems_are_refused_and_never_panic() {
    let gpus = idle_gpus();
    let cases = if full() { 1_000_000 } else { 20_000 };
    let result = runner(cases).run(&any_problem(), |problem| {
        for gpu in &gpus {
            match gpu.plan_attention(&problem) {
                Ok(plan) => {
                    prop_assert!(plan.workspace_bytes() > 0);
                    prop_assert!(!plan.explain().is_empty());
                }
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
        Ok(())
    });
    result.unwrap();
}

#[test]
fn one_wrong_field_in_a_valid_problem_is_refused() {
    let gpus = idle_gpus();
    let wrong: Vec<fn(&mut AttentionProblem)> = vec![
        |p| p.batch = 0,
        |p| p.query_heads = 0,
        |p| {
            p.query_heads = p.kv_heads * p.group() + if p.kv_heads > 1 { 1 } else { u32::MAX - 300 }
        },
        |p| p.kv_heads = 0,
        |p| p.kv_heads = p.query_heads + 1,
        |p| p.head_dim += 2,
        |p| p.head_dim = 260,
        |p| p.value_dim = 0,
        |p| p.value_dim += 1,
        |p| p.max_queries = 0,
        |p| p.max_keys = 0,
        |p| p.query.token_stride += 1,
        |p| p.key.head_stride += 2,
        |p| p.value.batch_stride += 3,
        |p| p.output.token_stride += 2,
        |p| p.scale = f32::INFINITY,
        |p| p.softcap = Some(-1.0),
        |p| p.softcap = Some(f32::NAN),
        |p| p.window = Some(0),
        |p| p.alibi_slopes = Some(vec![0.0; p.query_heads as usize + 1]),
        |p| p.sinks = Some(vec![f32::INFINITY; p.query_heads as usize]),
        |p| {
            p.mask = Mask::Tree {
                max_nodes: p.max_queries - 1,
            }
        },
        |p| {
            p.ragged = Some(RaggedTotals {
                queries: p.max_queries,
                keys: p.max_keys - 1,
            })
        },
    ];
    let drawn = (recipe(), 0..wrong.len());
    let result = runner(if full() { 5_000 } else { 300 }).run(&drawn, |(recipe, which)| {
        let mut problem = recipe.case().problem;
        for gpu in &gpus {
            prop_assert!(gpu.plan_attention(&problem).is_ok(), "{problem:?}");
        }
        wrong[which](&mut problem);
        for gpu in &gpus {
            prop_assert!(
                gpu.plan_attention(&problem).is_err(),
                "{which}: {problem:?}"
            );
        }
        Ok(())
    });
    result.unwrap();
}

#[test]
fn random_views_are_bound_or_refused_and_never_panic() {
    // Without features, which the device has not.
    let gpus = idle_gpus();
    let gpu = gpus.last().unwrap();
    let mut p = AttentionProblem::new(4, 2, 8, 6, 40);
    p.lse = true;
    p.mask = Mask::Tree { max_nodes: 8 };
    p.bias = Some(BiasLayout::default());
    let prepared = pollster::block_on(gpu.plan_attention(&p).unwrap().prepare()).unwrap();
    let workspace = prepared.workspace().unwrap();
    let words = lengths(&[(6, 40)]);
    let buffers = [
        gpu.storage("one", 1 << 16).unwrap(),
        gpu.storage("two", 1 << 14).unwrap(),
        gpu.storage_with("lengths", words.as_flattened()).unwrap(),
        gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 1 << 14,
            usage: wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        }),
    ];
    let offset = prop_oneof![
        (0u64..=20).prop_map(|i| i * 256),
        0u64..=5000,
        Just(u64::MAX - 255),
        any::<u64>(),
    ];
    let size = prop_oneof![(0u64..=64).prop_map(|i| i * 256), 0u64..=9000, any::<u64>()];
    let view = || (0..buffers.len(), offset.clone(), size.clone());
    let given = [view(), view(), view(), view(), view()];
    let optional = [option::of(view()), option::of(view()), option::of(view())];
    let (bound, refused) = (Cell::new(0), Cell::new(0));
    let cases = if full() { 100_000 } else { 5_000 };
    let result = runner(cases).run(&(given, optional), |(given, optional)| {
        let view = |(buffer, offset, size)| BufferView::range(&buffers[buffer], offset, size);
        let [query, key, value, output, lengths] = given.map(view);
        let [lse, tree, bias] = optional.map(|given| given.map(view));
        let io = AttentionIo {
            query,
            key,
            value,
            output,
            lengths,
            lse,
            tree,
            bias,
            pages: None,
        };
        match prepared.bind(&workspace, &io) {
            Ok(_) => {}
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
        Ok(())
    });
    result.unwrap();
    // Views that fit, one of them broken at a time.
    let whole = |i: usize| BufferView::whole(&buffers[i]);
    let outputs = gpu.storage("outputs", 1 << 14).unwrap();
    let lse = gpu.storage("lse", 1 << 10).unwrap();
    let good = AttentionIo {
        query: whole(0),
        key: whole(0),
        value: whole(1),
        output: BufferView::whole(&outputs),
        lengths: whole(2),
        lse: Some(BufferView::whole(&lse)),
        tree: Some(whole(1)),
        bias: Some(whole(0)),
        pages: None,
    };
    prepared.bind(&workspace, &good).unwrap();
    let one = (0usize..8, view());
    let result = runner(cases).run(&one, |(which, (buffer, offset, size))| {
        let view = BufferView::range(&buffers[buffer], offset, size);
        let mut io = good;
        match which {
            0 => io.query = view,
            1 => io.key = view,
            2 => io.value = view,
            3 => io.output = view,
            4 => io.lengths = view,
            5 => io.lse = Some(view),
            6 => io.tree = Some(view),
            _ => io.bias = Some(view),
        }
        let inside = (offset.checked_add(size)).is_some_and(|end| end <= buffers[buffer].size());
        match prepared.bind(&workspace, &io) {
            Ok(_) => {
                prop_assert!(inside && size > 0 && buffer != 3);
                bound.set(bound.get() + 1);
            }
            Err(AttentionError::Gpu(_) | AttentionError::ViewTooSmall { .. }) => {
                refused.set(refused.get() + 1);
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
        Ok(())
    });
    result.unwrap();
    let (bound, refused) = (bound.get(), refused.get());
    assert!(
        bound > 50 && refused > 50,
        "{bound} bound, {refused} refused"
    );
}
