//! Each decision equals the twin's, since the random numbers are the same.

use sunfleck::{
    reference::{
        philox::{self, Draw},
        verify::{
            VerifyInput,
            chance::{Chance, PhiloxChance},
            log_probabilities, verify,
        },
    },
    tree::{DraftTree, DrawKind, NONE},
    verify::{Element, LossyTypical, Rule, Sampling, VerifyRequest},
};

use super::{Case, draw_from, problem_for, run};
use crate::adapters::{TestGpu, on_every_adapter};
use crate::full;
use crate::random::Random;

/// Values that every element type holds.
pub fn coarse(random: &mut Random, count: usize) -> Vec<f32> {
    random
        .normals(count)
        .into_iter()
        .map(|x| half::bf16::from_f32(2.0 * x).to_f32())
        .collect()
}

/// A random case of which the twin's rows have support, with tokens drawn as the tree says.
pub fn random_case(
    random: &mut Random,
    vocabulary: usize,
    request: VerifyRequest,
    nodes: usize,
) -> Case {
    let mut parents = vec![NONE];
    for node in 1..nodes as u32 {
        let chain = matches!(request.rule, Rule::ChainRejection | Rule::Block);
        // Near the end, so that trees get deep; at most four children, so that there are tokens for them.
        let mut parent = node - 1 - if chain { 0 } else { random.below(node.min(3)) };
        while parents.iter().filter(|&&p| p == parent).count() >= 4 {
            parent = node - 1;
        }
        parents.push(parent);
    }
    let tokens = (0..nodes as u32).collect();
    let shape = DraftTree::from_parents(tokens, parents.clone(), DrawKind::Iid).unwrap();
    let rows = shape.q_rows()[1..]
        .iter()
        .max()
        .map_or(0, |row| *row as usize + 1);
    let logits = coarse(random, nodes * vocabulary);
    // Not far from what the target says, so that drafts are often kept.
    let mut draft = vec![0.0; rows * vocabulary];
    for (row, parent) in shape.q_rows().iter().zip(&parents).skip(1) {
        let (row, parent) = (*row as usize, *parent as usize);
        let near = logits[parent * vocabulary..][..vocabulary].iter();
        let noise = random.normals(vocabulary);
        for ((q, p), noise) in draft[row * vocabulary..].iter_mut().zip(near).zip(noise) {
            *q = half::bf16::from_f32(p + noise).to_f32();
        }
    }
    if request.draw == DrawKind::TopK {
        draft.clear();
    }
    let mut case = Case {
        logits,
        draft,
        tree: shape,
        position: random.below(1 << 20),
        occurred: (0..4).map(|_| random.below(vocabulary as u32)).collect(),
        grammar: Vec::new(),
        request,
    };
    if request.grammar {
        let words = vocabulary.div_ceil(32);
        // Three quarters of the tokens.
        let mut word = || (random.next() | random.next()) as u32;
        case.grammar = (0..nodes)
            .map(|_| (0..words).map(|_| word()).collect())
            .collect();
    }
    // Children come after their parents, so their tokens can be drawn in order.
    let mut tokens = vec![random.below(vocabulary as u32)];
    tokens.resize(nodes, 0);
    for node in 1..nodes {
        case.tree =
            DraftTree::from_parents(tokens.clone(), parents.clone(), DrawKind::Iid).unwrap();
        let parent = parents[node] as usize;
        let mut q = match request.draw {
            DrawKind::TopK => case.target(vocabulary)[parent * vocabulary..][..vocabulary].to_vec(),
            _ => {
                let row = case.tree.q_rows()[node] as usize;
                case.drafted(vocabulary)[row * vocabulary..][..vocabulary].to_vec()
            }
        };
        if request.draw != DrawKind::Iid {
            let siblings = (1..node).filter(|&s| parents[s] == parents[node]);
            siblings.for_each(|s| q[tokens[s] as usize] = 0.0);
        }
        if q.iter().all(|&q| q <= 0.0) {
            // A cut left too few tokens for so many children: a tree up to here.
            let cut = parents[..node].to_vec();
            case.tree =
                DraftTree::from_parents(tokens[..node].to_vec(), cut, request.draw).unwrap();
            case.logits.truncate(node * vocabulary);
            case.grammar.truncate(node);
            return case;
        }
        tokens[node] = draw_from(random, &q) as u32;
    }
    case.tree = DraftTree::from_parents(tokens, parents, request.draw).unwrap();
    case
}

/// Options that differ from request to request.
fn options(index: u32) -> Sampling {
    let mut sampling = Sampling {
        temperature: 0.7,
        ..Sampling::default()
    };
    match index % 7 {
        1 => sampling.top_k = 5,
        2 => sampling.top_p = 0.8,
        3 => sampling.min_p = 0.1,
        4 => (sampling.repetition_penalty, sampling.presence_penalty) = (1.3, 0.4),
        5 => (sampling.top_k, sampling.top_p, sampling.min_p) = (9, 0.9, 0.05),
        _ => {}
    }
    sampling
}

/// How near to the other answer the nearest decision was, as a part of the unit interval.
struct Watched {
    chance: PhiloxChance,
    margin: f64,
}

impl Chance for Watched {
    fn is_below(&mut self, draw: Draw, bound: f64, scale: f64) -> bool {
        // Where the scale is larger than the bound, u is compared with bound / scale.
        let distance = (self.chance.uniform(draw) * scale - bound).abs() / scale.max(bound);
        if bound > 0.0 && scale > 0.0 {
            self.margin = self.margin.min(distance);
        }
        self.chance.is_below(draw, bound, scale)
    }

    fn sample(&mut self, draw: Draw, weights: &[f64]) -> Option<usize> {
        let total: f64 = weights.iter().sum();
        let wanted = self.chance.uniform(draw) * total;
        let mut sum = 0.0;
        for weight in weights {
            sum += weight;
            if sum < total {
                self.margin = self.margin.min((sum - wanted).abs() / total);
            }
        }
        self.chance.sample(draw, weights)
    }
}

/// Only decisions nearer than this may differ: f32 rounds each of some tens of exponentials and their sums by 6e-8.
const MARGIN: f64 = 1e-5;

pub fn compare(gpu: &TestGpu, vocabulary: usize, element: Element, cases: &[Case]) -> usize {
    let mut problem = problem_for(cases, vocabulary as u32);
    problem.element = element;
    problem.row_stride = problem.row_stride.next_multiple_of(2) + 2;
    let (verdicts, lengths) = run(&gpu.gpu, &problem, cases);
    let (mut kept, mut near) = (0, 0);
    for (index, (case, verdict)) in cases.iter().zip(verdicts).enumerate() {
        let (target, draft) = (case.target(vocabulary), case.drafted(vocabulary));
        let draft = (case.request.draw != DrawKind::TopK).then_some(draft.as_slice());
        let input =
            VerifyInput::new(&case.tree, vocabulary, &target, draft, case.position).unwrap();
        let mut chance = Watched {
            chance: PhiloxChance::new(case.request.seed),
            margin: f64::INFINITY,
        };
        let expected = verify(case.request.rule, &input, &mut chance).unwrap();
        let verdict = verdict.unwrap_or_else(|error| panic!("{}: case {index}: {error}", gpu.name));
        let name = format!("{}: case {index}: {:?}", gpu.name, case.request);
        if verdict.tokens != expected.tokens && chance.margin < MARGIN {
            near += 1;
            continue;
        }
        assert_eq!(verdict.path, expected.path, "{name}");
        assert_eq!(verdict.tokens, expected.tokens, "{name}");
        assert_eq!(
            lengths[index],
            case.position + expected.path.len() as u32,
            "{name}"
        );
        let logs = log_probabilities(&expected, vocabulary, &case.logits, &target);
        for (slot, log) in logs.iter().enumerate() {
            let raw = f64::from(verdict.raw_log_probabilities[slot]);
            let processed = f64::from(verdict.log_probabilities[slot]);
            assert!((raw - log.raw).abs() < 1e-4, "{name}: {raw} {}", log.raw);
            // A greedy token may have no probability left after a cut; both say so in their way.
            let same = (processed - log.processed).abs() < 1e-4;
            assert!(
                same || processed < -1e38,
                "{name}: {processed} {}",
                log.processed
            );
        }
        kept += expected.accepted();
    }
    assert!(near * 200 <= cases.len(), "{}: {near} differ", gpu.name);
    kept
}

#[test]
fn every_rule_and_draw_in_one_batch_equals_its_twin() {
    on_every_adapter(|gpu| {
        // Thousands of random trees in the long run.
        let rounds = match (full(), gpu.is_slow() || gpu.compiles_slowly()) {
            (true, false) => 30,
            (true, true) => 4,
            _ => 1,
        };
        for round in 0..rounds {
            every_rule_and_draw(gpu, 31 + round);
        }
    });
}

fn every_rule_and_draw(gpu: &TestGpu, seed: u64) {
    {
        let mut random = Random(seed);
        let rules = [
            Rule::Greedy,
            Rule::Rejection,
            Rule::ChainRejection,
            Rule::Block,
            Rule::Traversal,
            Rule::LossyTypical(LossyTypical::default()),
            Rule::LossyThreshold(0.05),
        ];
        let draws = [DrawKind::TopK, DrawKind::Iid, DrawKind::WithoutReplacement];
        let cases: Vec<Case> = (0..126)
            .map(|index| {
                let mut request = VerifyRequest::new(
                    rules[index as usize % 7],
                    draws[index as usize / 7 % 3],
                    u64::from(index) << 33 | (46 + seed),
                );
                request.sampling = options(index / 3);
                request.drafting = options(index / 2);
                request.grammar = index % 4 == 1;
                let nodes = 1 + random.below(12) as usize;
                random_case(&mut random, 40, request, nodes)
            })
            .collect();
        let kept = compare(gpu, 40, Element::F32, &cases);
        assert!(kept > 60, "only {kept} tokens were kept");
    }
}

#[test]
fn logits_of_16_bits_equal_the_twin_on_the_same_values() {
    on_every_adapter(|gpu| {
        for element in [Element::F16, Element::Bf16] {
            let mut random = Random(8);
            let cases: Vec<Case> = (0..12)
                .map(|index| {
                    let mut request = VerifyRequest::new(Rule::Rejection, DrawKind::Iid, index);
                    request.sampling = options(index as u32);
                    random_case(&mut random, 33, request, 6)
                })
                .collect();
            compare(gpu, 33, element, &cases);
        }
    });
}

#[test]
fn large_vocabularies_equal_the_twin() {
    on_every_adapter(|gpu| {
        for vocabulary in [1, 49_152, 262_144] {
            let mut random = Random(3);
            let draws = [DrawKind::TopK, DrawKind::WithoutReplacement];
            let cases: Vec<Case> = draws
                .into_iter()
                .map(|draw| {
                    let request = VerifyRequest::new(Rule::Rejection, draw, 9);
                    let nodes = if vocabulary == 1 { 1 } else { 3 };
                    random_case(&mut random, vocabulary, request, nodes)
                })
                .collect();
            compare(gpu, vocabulary, Element::F32, &cases);
        }
    });
}

#[test]
fn random_numbers_have_the_same_bits_as_on_the_cpu() {
    const MAIN: &str = "
        @group(0) @binding(0) var<storage, read> counters: array<vec4<u32>>;
        @group(0) @binding(1) var<storage, read_write> result: array<vec4<u32>>;
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            let counter = counters[2u * id.x];
            let words = philox4x32_10(counter, counters[2u * id.x + 1u].xy);
            result[2u * id.x] = words;
            result[2u * id.x + 1u] = vec4(bitcast<u32>(uniform_number(words.x)), PURPOSE_ACCEPT, PURPOSE_SAMPLE, 0u);
        }";
    on_every_adapter(|gpu| {
        let mut random = Random(1);
        let mut counters = vec![[0u32; 4], [0; 4], [u32::MAX; 4], [u32::MAX; 4]];
        counters.extend((4..128).map(|_| [(); 4].map(|_| random.next() as u32)));
        let device = gpu.gpu.device();
        let text =
            concat!(include_str!("../../../shaders/verify/philox.wgsl"), "\n").to_owned() + MAIN;
        let module = device.create_shader_module(sunfleck::wgpu::ShaderModuleDescriptor {
            label: None,
            source: sunfleck::wgpu::ShaderSource::Wgsl(text.into()),
        });
        let pipeline = device.create_compute_pipeline(&sunfleck::wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: Default::default(),
            cache: None,
        });
        let input = gpu.gpu.storage_with("counters", &counters).unwrap();
        let output = gpu.gpu.storage("words", 16 * 128).unwrap();
        let bind = device.create_bind_group(&sunfleck::wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[
                sunfleck::wgpu::BindGroupEntry {
                    binding: 0,
                    resource: input.as_entire_binding(),
                },
                sunfleck::wgpu::BindGroupEntry {
                    binding: 1,
                    resource: output.as_entire_binding(),
                },
            ],
        });
        gpu.run(|pass| {
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &bind, &[]);
            pass.dispatch_workgroups(1, 1, 1);
        });
        let result: Vec<[u32; 4]> = gpu.read(&output);
        for (pair, got) in counters.chunks_exact(2).zip(result.chunks_exact(2)) {
            let words = philox::philox4x32_10(pair[0], [pair[1][0], pair[1][1]]);
            assert_eq!(got[0], words, "{}", gpu.name);
            assert_eq!(
                got[1][0],
                philox::uniform(words[0]).to_bits(),
                "{}",
                gpu.name
            );
            let purposes = [
                philox::Purpose::Accept as u32,
                philox::Purpose::Sample as u32,
            ];
            assert_eq!(got[1][1..3], purposes);
        }
    });
}
