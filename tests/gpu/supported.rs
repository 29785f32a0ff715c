//! Every problem that the documentation calls supported has a plan on every capability profile, whose kernels keep the
//! profile's limits and are what naga reads; below what WebGPU guarantees, a plan or the limit that forbids it. No GPU
//! needed.

use std::collections::{BTreeMap, HashSet};

use sunfleck::{
    attention::{
        AttentionError, AttentionProblem, BiasLayout, Element, Mask, Pages, RaggedTotals,
        TensorLayout,
    },
    gpu::{Capabilities, Gpu, GpuError, Kernel, Limit},
    variants,
    verify::{VerifyError, VerifyProblem},
    wgpu::{self, Limits},
};

use crate::{layouts, random::Random};

/// Problems a profile: of attention, whose head sizes take turns while all else is drawn, and of verification.
const DRAWS: [u32; 2] = [1_280, 200];

/// Profiles below the guarantee, with their names.
fn below_the_guarantee() -> Vec<(&'static str, Capabilities)> {
    let adreno = variants::profiles()
        .into_iter()
        .find(|(name, _)| *name == "Adreno or Mali")
        .expect("there is such a profile")
        .1;
    let with = |limits| Capabilities {
        limits,
        ..adreno.clone()
    };
    let small_workgroups = Limits {
        max_compute_invocations_per_workgroup: 128,
        max_compute_workgroup_size_x: 128,
        max_compute_workgroup_size_y: 128,
        ..Limits::default()
    };
    vec![
        ("128 invocations", with(small_workgroups.clone())),
        (
            "compatibility mode",
            with(Limits {
                max_storage_buffers_per_shader_stage: 4,
                ..small_workgroups
            }),
        ),
        ("downlevel", with(Limits::downlevel_defaults())),
        ("no compute", with(Limits::downlevel_webgl2_defaults())),
    ]
}

/// One of them.
fn pick<T: Copy>(random: &mut Random, values: &[T]) -> T {
    values[random.below(values.len() as u32) as usize]
}

fn coin(random: &mut Random) -> bool {
    random.below(3) == 0
}

/// A problem within the documented ranges.
fn attention(random: &mut Random, draw: u32) -> AttentionProblem {
    let head_dim = draw % 64 * 4 + 4;
    let (heads, kv_heads) = pick(
        random,
        &[
            (1, 1),
            (8, 8),
            (32, 8),
            (12, 1),
            (9, 3),
            (64, 1),
            (128, 8),
            (256, 2),
        ],
    );
    let queries = pick(random, &[1, 2, 7, 16, 33, 64, 512, 8192]);
    let keys = pick(random, &[1, 15, 64, 1000, 4096, 131_072]).max(queries);
    let mut p = AttentionProblem::new(heads, kv_heads, head_dim, queries, keys);
    p.batch = pick(random, &[1, 1, 3, 16]);
    p.value_dim = pick(random, &[head_dim, head_dim, 4, 128, 256]);
    if coin(random) {
        p.ragged = Some(RaggedTotals {
            queries: queries * p.batch,
            keys: keys * p.batch,
        });
    }
    let floats = Element::FLOATS;
    let stored = [
        Element::F32,
        Element::F16,
        Element::Bf16,
        Element::Q8,
        Element::Q4,
    ];
    // Even strides for 16-bit types, whole words for integers.
    let place = |element: Element, tokens, heads, dim: u32| {
        TensorLayout::token_major(element, tokens, heads, element.row_elements(dim))
    };
    p.query = place(pick(random, &floats), queries, heads, head_dim);
    p.output = place(pick(random, &floats), queries, heads, p.value_dim);
    let (key, value) = (pick(random, &stored), pick(random, &stored));
    p.key = place(key, keys, kv_heads, head_dim);
    p.value = place(value, keys, kv_heads, p.value_dim);
    if coin(random) {
        let page_tokens = pick(random, &[16, 32, 64, 128, 256]);
        p.key = TensorLayout::head_major(key, page_tokens, kv_heads, key.row_elements(head_dim));
        let dim = value.row_elements(p.value_dim);
        p.value = TensorLayout::head_major(value, page_tokens, kv_heads, dim);
        let used = keys.div_ceil(page_tokens);
        p.pages = Some(Pages {
            page_tokens,
            pool_pages: used + 3,
            table_stride: used,
            first_page: 0,
            first_sequence: 0,
        });
    }
    p.mask = match random.below(5) {
        0 => Mask::None,
        1 => Mask::Causal,
        2 => Mask::Prefix { keys: keys / 2 },
        3 => Mask::Tree { max_nodes: queries },
        _ => Mask::TreeEnd {
            max_nodes: queries + 5,
        },
    };
    p.window = coin(random).then(|| pick(random, &[1, 33, 4096]));
    p.softcap = coin(random).then_some(30.0);
    p.alibi_slopes = coin(random).then(|| vec![0.5; heads as usize]);
    p.sinks = coin(random).then(|| vec![1.0; heads as usize]);
    p.bias = coin(random).then(BiasLayout::default);
    p.lse = coin(random);
    p.invariant = coin(random);
    p
}

fn verification(random: &mut Random) -> VerifyProblem {
    let vocabulary = pick(
        random,
        &[2, 31, 258, 2500, 32_000, 49_152, 151_936, 262_144],
    );
    let nodes = pick(random, &[1, 2, 16, 64, 500]);
    let mut p = VerifyProblem::new(pick(random, &[1, 2, 33]), nodes, vocabulary);
    p.element = pick(random, &Element::FLOATS);
    p.tree_stride = nodes + pick(random, &[0, 3]);
    // Rows of a multiple of 256 bytes can be walked in parts.
    p.row_stride = vocabulary.next_multiple_of(128);
    p.draft_rows = pick(random, &[0, 1, nodes]);
    p.penalties = coin(random);
    p.grammar = coin(random);
    p.top_log_probabilities = pick(random, &[0, 0, 1, 32]);
    p
}

/// What came of the problems on one profile.
#[derive(Default)]
struct Outcomes {
    plans: u32,
    refusals: BTreeMap<String, u32>, // by limit
}

/// Kernels that were met, of which some are read by naga.
#[derive(Default)]
struct Met(HashSet<String>);

impl Met {
    fn add(&mut self, kernel: &Kernel) {
        let new = self.0.insert(kernel.name.clone());
        // Each file of a kernel comes many times; to read all of them takes minutes.
        if new && self.0.len().is_multiple_of(30) {
            layouts::check(kernel);
        }
    }
}

fn on(profile: &Capabilities) -> Gpu {
    let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    Gpu::with_capabilities(&device, &queue, profile.clone())
}

fn attention_on(profile: &Capabilities, seed: u64, met: &mut Met) -> Outcomes {
    let gpu = on(profile);
    let mut random = Random(seed);
    let mut outcomes = Outcomes::default();
    for draw in 0..DRAWS[0] {
        let problem = attention(&mut random, draw);
        let refusal = match gpu.plan_attention(&problem) {
            Ok(plan) => {
                outcomes.plans += 1;
                for kernel in plan.kernels() {
                    kernel
                        .check(profile)
                        .unwrap_or_else(|error| panic!("{problem:?}: {error}"));
                    met.add(kernel);
                }
                continue;
            }
            Err(AttentionError::Gpu(GpuError::LimitExceeded {
                limit,
                needed,
                available,
                ..
            })) => {
                assert!(needed > available, "{problem:?}");
                limit.to_string()
            }
            Err(AttentionError::StorageBuffers) => {
                let tree = matches!(problem.mask, Mask::Tree { .. } | Mask::TreeEnd { .. });
                assert!(tree && problem.pages.is_some() && problem.bias.is_some());
                "a page table, a tree and a bias".into()
            }
            Err(AttentionError::TooLarge { bytes, .. }) => {
                assert!(bytes > 1 << 30, "{problem:?}");
                "32-bit addresses".into()
            }
            Err(error) => panic!("{problem:?}: {error}"),
        };
        *outcomes.refusals.entry(refusal).or_default() += 1;
    }
    outcomes
}

fn verification_on(profile: &Capabilities, seed: u64, met: &mut Met) -> Outcomes {
    let gpu = on(profile);
    let mut random = Random(seed);
    let mut outcomes = Outcomes::default();
    for _ in 0..DRAWS[1] {
        let problem = verification(&mut random);
        match gpu.plan_verify(&problem) {
            Ok(plan) => {
                outcomes.plans += 1;
                for kernel in plan.kernels() {
                    kernel.check(profile).unwrap();
                    met.add(&kernel);
                }
            }
            Err(VerifyError::Gpu(GpuError::LimitExceeded { limit, .. })) => {
                *outcomes.refusals.entry(limit.to_string()).or_default() += 1;
            }
            Err(error) => panic!("{problem:?}: {error}"),
        }
    }
    outcomes
}

fn report(kind: &str, name: &str, outcomes: &Outcomes) {
    println!(
        "{kind} on {name}: {} plans, refused {:?}",
        outcomes.plans, outcomes.refusals
    );
}

#[test]
fn every_supported_problem_has_a_plan_on_every_profile() {
    let mut met = Met::default();
    for (seed, (name, profile)) in variants::profiles().into_iter().enumerate() {
        let outcomes = attention_on(&profile, seed as u64, &mut met);
        report("attention", name, &outcomes);
        let by_the_problem = ["a page table, a tree and a bias", "32-bit addresses"];
        for limit in outcomes.refusals.keys() {
            assert!(by_the_problem.contains(&limit.as_str()), "{name}: {limit}");
        }
        let outcomes = verification_on(&profile, seed as u64, &mut met);
        report("verification", name, &outcomes);
        // Lists of likely tokens of many nodes, and nothing else, can be larger than a binding.
        let binding = Limit::StorageBinding.to_string();
        assert!(
            outcomes.refusals.keys().all(|limit| *limit == binding),
            "{name}: {:?}",
            outcomes.refusals
        );
    }
    assert!(met.0.len() > 1000, "only {} kernels", met.0.len());
}

#[test]
fn below_the_guarantee_a_refusal_names_the_limit() {
    let mut met = Met::default();
    for (name, profile) in below_the_guarantee() {
        let attention = attention_on(&profile, 1, &mut met);
        report("attention", name, &attention);
        let verification = verification_on(&profile, 1, &mut met);
        report("verification", name, &verification);
        // WebGPU's own limits are the floor: kernels have up to 256 invocations and seven storage buffers.
        assert_eq!((attention.plans, verification.plans), (0, 0), "{name}");
    }
}

#[test]
fn no_problem_makes_planning_panic() {
    let numbers = [
        0,
        1,
        2,
        3,
        4,
        5,
        16,
        64,
        255,
        256,
        257,
        65_536,
        1 << 20,
        u32::MAX / 2,
        u32::MAX - 1,
        u32::MAX,
    ];
    let mut profiles = variants::profiles();
    profiles.extend(below_the_guarantee());
    let gpus: Vec<_> = profiles.iter().map(|(_, profile)| on(profile)).collect();
    let mut random = Random(7);
    let mut plans = 0;
    for draw in 0..14_000 {
        let gpu = &gpus[draw % gpus.len()];
        let mut problem = attention(&mut random, draw as u32);
        // Most stay within range but for a number or two.
        for _ in 0..1 + random.below(3) {
            let number = pick(&mut random, &numbers);
            let p = &mut problem;
            match random.below(20) {
                0 => p.batch = number,
                1 => p.query_heads = number,
                2 => p.kv_heads = number,
                3 => p.head_dim = number,
                4 => p.value_dim = number,
                5 => p.max_queries = number,
                6 => p.max_keys = number,
                7 => p.query.batch_stride = number,
                8 => p.query.token_stride = number,
                9 => p.key.token_stride = number,
                10 => p.key.head_stride = number,
                11 => p.value.batch_stride = number,
                12 => p.output.head_stride = number,
                13 => p.output.token_stride = number,
                14 => p.window = Some(number),
                15 => p.mask = Mask::Tree { max_nodes: number },
                16 => p.mask = Mask::Prefix { keys: number },
                17 => p.scale = f32::from_bits(number),
                18 => {
                    if let Some(pages) = &mut p.pages {
                        pages.page_tokens = number;
                    }
                }
                _ => {
                    p.bias = Some(BiasLayout {
                        batch_stride: number,
                        head_stride: number,
                        query_stride: number,
                    });
                }
            }
        }
        if let Ok(plan) = gpu.plan_attention(&problem) {
            plans += 1;
            plan.explain();
        }
        let _ = gpu.plan_cascade(&problem);
        let mut problem = verification(&mut random);
        let number = pick(&mut random, &numbers);
        match random.below(7) {
            0 => problem.batch = number,
            1 => problem.max_nodes = number,
            2 => problem.tree_stride = number,
            3 => problem.vocabulary = number,
            4 => problem.row_stride = number,
            5 => problem.draft_rows = number,
            _ => problem.top_log_probabilities = number,
        }
        let _ = gpu.plan_verify(&problem);
    }
    assert!(plans > 1_000, "only {plans} of the problems had a plan");
}
