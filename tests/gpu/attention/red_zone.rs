//! Memory that a call must not touch, and numbers that it must not use.

use super::{
    recipe::{BiasKind, MaskKind, Placement, Recipe, random_tree},
    tensors::{RED_ZONE, dead_canary, output_memory},
    *,
};
use crate::{adapters::TestGpu, attention::case::Case};

/// A plain problem of two uneven sequences.
fn recipe(queries: u32, keys: u32) -> Recipe {
    Recipe {
        head_dim: 36,
        value_dim: 20,
        group: 2,
        kv_heads: 2,
        sequences: vec![(queries, keys), (1, keys / 2)],
        spare: (3, 11),
        ragged: false,
        placement: Placement::TokenMajor,
        mask: MaskKind::Causal,
        window: None,
        softcap: None,
        alibi: false,
        bias: BiasKind::None,
        sinks: false,
        lse: true,
        elements: [Element::F32; 4],
        invariant: false,
        tight: false,
        seed: 90,
    }
}

#[test]
fn foreign_memory_around_outputs_survives_in_every_placement() {
    on_every_adapter(|gpu| {
        for placement in [
            Placement::TokenMajor,
            Placement::HeadMajor,
            Placement::Gaps,
            Placement::Permuted,
            Placement::Joined,
        ] {
            for (queries, output) in [(3, Element::F32), (3, Element::F16), (40, Element::F32)] {
                for ragged in [false, true] {
                    let mut recipe = recipe(queries, 75);
                    recipe.placement = placement;
                    recipe.elements[3] = output;
                    recipe.ragged = ragged;
                    check(gpu, &recipe.case(), 91);
                }
            }
        }
    });
}

#[test]
fn a_written_canary_is_found() {
    let mut memory = output_memory(32);
    let written = || [4..8, 16..20].into_iter();
    memory[RED_ZONE + 5] = 0;
    assert_eq!(dead_canary(&memory, written()), None);
    memory[RED_ZONE + 8] = 0;
    assert_eq!(dead_canary(&memory, written()), Some(8));
    memory[RED_ZONE - 1] = 0;
    assert_eq!(dead_canary(&memory, written()), Some(-1));
}

/// Fills the keys and values of `poisoned` keys with NaN, and again with infinities. The rows that
/// see none of them must keep their bits.
fn check_poison(
    gpu: &TestGpu,
    case: &Case,
    what: &str,
    poisoned: &[usize],
    sees: impl Fn(usize, usize) -> bool,
) {
    let p = &case.problem;
    let clean = case.inputs(92);
    let expected = case.run(gpu, &clean).unwrap();
    let (queries, heads) = (p.max_queries as usize, p.query_heads as usize);
    for poison in [f32::NAN, f32::INFINITY] {
        let mut inputs = clean.clone();
        for key in poisoned {
            let k_row = p.kv_heads as usize * p.head_dim as usize;
            inputs.k[key * k_row..][..k_row].fill(poison);
            let v_row = p.kv_heads as usize * p.value_dim as usize;
            inputs.v[key * v_row..][..v_row].fill(poison);
        }
        let got = case.run(gpu, &inputs).unwrap();
        let mut blind = 0;
        for query in (0..queries).filter(|query| !poisoned.iter().any(|key| sees(*query, *key))) {
            blind += 1;
            let row = heads * p.value_dim as usize;
            let bits = |values: &[f32], start: usize, len: usize| -> Vec<u32> {
                values[start..][..len].iter().map(|v| v.to_bits()).collect()
            };
            assert_eq!(
                bits(&got.output, query * row, row),
                bits(&expected.output, query * row, row),
                "{}: {what} of {queries} queries: {poison} in keys {poisoned:?} reached query {query}",
                gpu.name
            );
            assert_eq!(
                bits(&got.lse, query * heads, heads),
                bits(&expected.lse, query * heads, heads),
                "{}: {what}: LSE of query {query}",
                gpu.name
            );
        }
        assert!(blind > 0, "{what}: every query sees the poison");
    }
}

/// Few rows, and enough for the prefill kernel; the poison in the middle of the last keys.
fn masked(queries: u32, change: impl Fn(&mut AttentionProblem)) -> Case {
    let mut masked = case(4, 2, 32, queries, 270 + queries);
    masked.problem.lse = true;
    change(&mut masked.problem);
    masked
}

#[test]
fn nan_in_keys_of_the_future_does_not_leak() {
    on_every_adapter(|gpu| {
        for queries in [5, 40] {
            let case = masked(queries, |_| ());
            let causal = |query: usize, key: usize| key <= query + 270;
            check_poison(gpu, &case, "causal", &[271, 273], causal);
            let case = masked(queries, |p| p.mask = Mask::Prefix { keys: 100 });
            check_poison(gpu, &case, "prefix", &[272], causal);
        }
    });
}

#[test]
fn nan_in_keys_before_the_window_does_not_leak() {
    on_every_adapter(|gpu| {
        for queries in [5, 40] {
            let windowed = |query: usize, key: usize| key <= query + 270 && query + 270 - key < 20;
            let case = masked(queries, |p| p.window = Some(20));
            check_poison(gpu, &case, "window", &[3, 240, 252, 253], windowed);
        }
    });
}

#[test]
fn nan_in_sibling_branches_does_not_leak() {
    on_every_adapter(|gpu| {
        for queries in [9, 40] {
            let mut case = masked(queries, |p| p.mask = Mask::Tree { max_nodes: 64 });
            case.trees.push(random_tree(queries, &mut Random(93)));
            let tree = case.trees[0].clone();
            let sees = move |query: usize, key: usize| tree.sees(query, key - 270);
            for node in [1, 3, 8] {
                check_poison(gpu, &case, "tree", &[270 + node], &sees);
            }
        }
    });
}

#[test]
fn nan_in_keys_that_a_bias_hides_does_not_leak() {
    use sunfleck::attention::BiasLayout;
    on_every_adapter(|gpu| {
        for queries in [5u32, 40] {
            let keys = 270 + queries;
            let case = masked(queries, |p| {
                p.mask = Mask::None;
                p.bias = Some(BiasLayout {
                    query_stride: keys,
                    ..Default::default()
                });
            });
            // The bias of these inputs hides every seventh value, whichever query that is.
            let hidden =
                move |query: usize, key: usize| (query * keys as usize + key).is_multiple_of(7);
            check_poison(gpu, &case, "bias", &[103], |query, key| !hidden(query, key));
        }
    });
}
