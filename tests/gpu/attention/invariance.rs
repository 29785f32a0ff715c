//! The invariance contract of attention: the bits of a row depend on its query and keys alone.

use sunfleck::tree::{DraftTree, DrawKind, NONE};

use super::{
    recipe::{BiasKind, MaskKind, Placement, Recipe, random_tree},
    tensors::rounded,
    *,
};
use crate::{adapters::TestGpu, attention::case::Case, attention::case::Inputs};

/// Bits of the output and LSE of one sequence.
fn sequence_bits(gpu: &TestGpu, case: &Case, inputs: &Inputs, sequence: usize) -> [Vec<u32>; 2] {
    let p = &case.problem;
    let got = case.run(gpu, inputs).unwrap();
    let [query, _, queries, _] = case.places()[sequence];
    let heads = p.query_heads as usize;
    let row = heads * p.value_dim as usize;
    let first = sequence * p.max_queries as usize * heads;
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect();
    [
        bits(&got.output[query * row..][..queries * row]),
        bits(&got.lse[first..][..queries * heads]),
    ]
}

/// Puts the only sequence of `from` where sequence `sequence` of `case` has its own.
fn transplant(case: &Case, inputs: &mut Inputs, sequence: usize, from: &Inputs) {
    let p = &case.problem;
    let [query, key, queries, keys] = case.places()[sequence];
    let q_row = (p.query_heads * p.head_dim) as usize;
    let k_row = (p.kv_heads * p.head_dim) as usize;
    let v_row = (p.kv_heads * p.value_dim) as usize;
    inputs.q[query * q_row..][..queries * q_row].copy_from_slice(&from.q[..queries * q_row]);
    inputs.k[key * k_row..][..keys * k_row].copy_from_slice(&from.k[..keys * k_row]);
    inputs.v[key * v_row..][..keys * v_row].copy_from_slice(&from.v[..keys * v_row]);
}

/// Storage types of a model's cache: all f32, f16 keys and values, all bf16, all f16.
const STORAGES: [[Element; 4]; 4] = [
    [Element::F32; 4],
    [Element::F32, Element::F16, Element::F16, Element::F32],
    [Element::Bf16; 4],
    [Element::F16; 4],
];

fn recipe(elements: [Element; 4], sequences: Vec<(u32, u32)>) -> Recipe {
    // Kernels on matrices take whole matrices of a head.
    let (head_dim, value_dim) = match elements == [Element::F16; 4] {
        true => (48, 32),
        false => (40, 24),
    };
    Recipe {
        head_dim,
        value_dim,
        group: 3,
        kv_heads: 2,
        sequences,
        spare: (0, 0),
        ragged: false,
        placement: Placement::TokenMajor,
        mask: MaskKind::Causal,
        window: None,
        softcap: None,
        alibi: false,
        bias: BiasKind::None,
        sinks: false,
        lse: true,
        elements,
        invariant: true,
        tight: false,
        seed: 1,
    }
}

#[test]
fn bits_do_not_depend_on_company_capacity_or_strides() {
    on_every_adapter(|gpu| {
        for elements in STORAGES {
            let alone = recipe(elements, vec![(30, 290)]);
            let inputs = alone.case().inputs(110);
            let expected = sequence_bits(gpu, &alone.case(), &inputs, 0);
            let company = || vec![(1, 7), (30, 290), (33, 301)];
            let plain = recipe(elements, company());
            let changes: [(&str, usize, Recipe); 7] = [
                ("the second of a padded batch", 1, plain.clone()),
                (
                    "the second of a ragged batch",
                    1,
                    Recipe {
                        ragged: true,
                        ..plain.clone()
                    },
                ),
                (
                    "spare capacity",
                    0,
                    Recipe {
                        spare: (50, 800),
                        ..alone.clone()
                    },
                ),
                (
                    "spare capacity, recorded for the longest",
                    0,
                    Recipe {
                        spare: (50, 800),
                        tight: true,
                        ..alone.clone()
                    },
                ),
                (
                    "strides with gaps",
                    1,
                    Recipe {
                        placement: Placement::Gaps,
                        ..plain.clone()
                    },
                ),
                (
                    "permuted axes",
                    1,
                    Recipe {
                        placement: Placement::Permuted,
                        ..plain.clone()
                    },
                ),
                (
                    "K and V in one buffer",
                    1,
                    Recipe {
                        placement: Placement::Joined,
                        ..plain
                    },
                ),
            ];
            for (what, sequence, changed) in changes {
                let case = changed.case();
                let mut others = case.inputs(111);
                transplant(&case, &mut others, sequence, &inputs);
                assert!(
                    sequence_bits(gpu, &case, &others, sequence) == expected,
                    "{}: {elements:?}: other bits with {what}",
                    gpu.name
                );
            }
        }
    });
}

#[test]
fn bits_do_not_depend_on_the_number_of_queries_or_on_their_values() {
    on_every_adapter(|gpu| {
        for elements in STORAGES {
            let (queries, past) = (30usize, 250usize);
            let together = recipe(elements, vec![(queries as u32, (past + queries) as u32)]);
            let case = together.case();
            let inputs = case.inputs(112);
            let [all, all_lse] = sequence_bits(gpu, &case, &inputs, 0);
            let heads = case.problem.query_heads as usize;
            let (q_row, o_row) = (
                heads * case.problem.head_dim as usize,
                heads * case.problem.value_dim as usize,
            );
            // Decoded alone, and as the last of three of which two have other values.
            for query in [0, 5, 6, 29] {
                for count in [1, 3] {
                    if query + 1 < count {
                        continue;
                    }
                    let few = recipe(elements, vec![(count as u32, (past + query + 1) as u32)]);
                    let few = few.case();
                    let mut own = few.inputs(113);
                    let last = (count - 1) * q_row;
                    own.q[last..].copy_from_slice(&inputs.q[query * q_row..][..q_row]);
                    let (k, v) = (own.k.len(), own.v.len());
                    own.k.copy_from_slice(&inputs.k[..k]);
                    own.v.copy_from_slice(&inputs.v[..v]);
                    let [output, lse] = sequence_bits(gpu, &few, &own, 0);
                    let what = format!("{}: {elements:?}: query {query}", gpu.name);
                    let last = (count - 1) * o_row;
                    assert!(output[last..] == all[query * o_row..][..o_row], "{what}");
                    let last = (count - 1) * heads;
                    assert!(
                        lse[last..] == all_lse[query * heads..][..heads],
                        "{what} LSE"
                    );
                }
            }
        }
    });
}

/// A tree problem over `past` committed keys, and its inputs.
fn drafted(elements: [Element; 4], tree: &DraftTree, past: u32, seed: u64) -> (Case, Inputs) {
    let nodes = tree.len() as u32;
    let mut drafted = recipe(elements, vec![(nodes, past + nodes)]);
    drafted.mask = MaskKind::Tree;
    let mut case = drafted.case();
    case.trees = vec![tree.clone()];
    let inputs = case.inputs(seed);
    (case, inputs)
}

/// The last node of `path`, decoded as one query after the committed keys and its path.
fn decoded(gpu: &TestGpu, tree: &Case, inputs: &Inputs, path: &[usize]) -> (Vec<f32>, Vec<f32>) {
    let p = &tree.problem;
    let (queries, keys) = tree.sequences[0];
    let past = (keys - queries) as usize;
    let elements = [p.query, p.key, p.value, p.output].map(|layout| layout.element);
    let chain = recipe(elements, vec![(1, (past + path.len()) as u32)]);
    let rows = |values: &[f32], row: usize| -> Vec<f32> {
        let nodes = path.iter().map(|node| past + node);
        let slots = (0..past).chain(nodes);
        slots
            .flat_map(|slot| values[slot * row..][..row].to_vec())
            .collect()
    };
    let q_row = (p.query_heads * p.head_dim) as usize;
    let own = Inputs {
        q: inputs.q[path[path.len() - 1] * q_row..][..q_row].to_vec(),
        k: rows(&inputs.k, (p.kv_heads * p.head_dim) as usize),
        v: rows(&inputs.v, (p.kv_heads * p.value_dim) as usize),
        bias: None,
    };
    let got = chain.case().run(gpu, &own).unwrap();
    (got.output, got.lse)
}

/// Nodes from the root to `node`.
fn path_of(tree: &DraftTree, node: usize) -> Vec<usize> {
    (0..=node)
        .filter(|ancestor| tree.sees(node, *ancestor))
        .collect()
}

#[test]
fn nodes_whose_ancestors_fill_the_slots_have_the_bits_of_decoding() {
    on_every_adapter(|gpu| {
        for elements in STORAGES {
            for past in [3u32, 250, 256] {
                // A chain of seven with branches after it and beside it.
                let parents = vec![NONE, 0, 1, 2, 3, 4, 5, 2, 0, 8, 6];
                let tokens = (0..parents.len() as u32).collect();
                let tree = DraftTree::from_parents(tokens, parents, DrawKind::TopK).unwrap();
                let (case, inputs) = drafted(elements, &tree, past, 114);
                let got = case.run(gpu, &inputs).unwrap();
                for node in 0..7 {
                    let path = path_of(&tree, node);
                    assert_eq!(path, (0..=node).collect::<Vec<_>>());
                    let (output, lse) = decoded(gpu, &case, &inputs, &path);
                    let (row, heads) = (output.len(), lse.len());
                    let bits = |values: &[f32]| -> Vec<u32> {
                        values.iter().map(|v| v.to_bits()).collect()
                    };
                    let what = format!("{}: {elements:?} past {past} node {node}", gpu.name);
                    assert!(
                        bits(&output) == bits(&got.output[node * row..][..row]),
                        "{what}"
                    );
                    assert!(
                        bits(&lse) == bits(&got.lse[node * heads..][..heads]),
                        "{what} LSE"
                    );
                }
            }
        }
    });
}

#[test]
fn nodes_of_a_branch_differ_from_decoding_by_rounding_only() {
    on_every_adapter(|gpu| {
        for elements in &STORAGES[..2] {
            for past in [3u32, 250] {
                let nodes = 25;
                let tree = random_tree(nodes, &mut Random(115));
                let (case, inputs) = drafted(*elements, &tree, past, 116);
                let got = case.run(gpu, &inputs).unwrap();
                // Normal scores: 40 octaves apart at most. See `Mask::Tree` for the bound.
                let largest = inputs
                    .v
                    .iter()
                    .fold(0f32, |largest, v| largest.max(v.abs()));
                let bound = (2 * nodes + 2 * 40 + 20) as f32 * 0.5f32.powi(21) * largest;
                let mut apart = 0;
                for node in 0..nodes as usize {
                    let (output, _) = decoded(gpu, &case, &inputs, &path_of(&tree, node));
                    let row = output.len();
                    let in_tree = &got.output[node * row..][..row];
                    for (tree_value, value) in in_tree.iter().zip(&output) {
                        let difference = (tree_value - value).abs();
                        apart += u32::from(difference > 0.0);
                        assert!(
                            difference <= bound,
                            "{}: past {past} node {node}: {tree_value} and {value}",
                            gpu.name
                        );
                    }
                }
                // Over one tile a branch adds in the chain's order; over two spans it does not.
                assert!(apart > 0 || past == 3, "{}: past {past}", gpu.name);
            }
        }
    });
}

#[test]
fn stored_inputs_are_rounded_once() {
    // What the bits above rest on: rounding a rounded value changes nothing.
    for element in Element::ALL {
        let once = rounded(element, Random(117).normals(1000), 40);
        assert_eq!(rounded(element, once.clone(), 40), once);
    }
}
