//! Which keys a query sees.

use super::*;

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
fn fully_masked_row_gives_zero_and_no_lse() {
    on_every_adapter(|gpu| {
        // Bottom-right causal with fewer keys than queries: the first queries see nothing.
        let mut masked = case(4, 2, 32, 10, 3);
        masked.problem.lse = true;
        check(gpu, &masked, 8);
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
        let tree = DraftTree::from_parents(tokens, parents, DrawKind::TopK).unwrap();
        let mut tree_case = case(6, 2, 32, 40, 300);
        tree_case.problem.mask = Mask::Tree { max_nodes: 64 };
        tree_case.trees.push(tree);
        check(gpu, &tree_case, 10);
    });
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
fn a_tree_measures_distance_by_depth() {
    use sunfleck::tree::{DraftTree, DrawKind, NONE};
    on_every_adapter(|gpu| {
        // Two branches of three: slots 1 2 3 and 4 5 6, depths 1 2 3 and 1 2 3.
        let parents = vec![NONE, 0, 1, 2, 0, 4, 5];
        let tree = DraftTree::from_parents((0..7).collect(), parents, DrawKind::TopK).unwrap();
        let mut windowed = case(2, 1, 32, 7, 27);
        windowed.problem.mask = Mask::Tree { max_nodes: 8 };
        windowed.problem.window = Some(5);
        windowed.trees.push(tree);
        check(gpu, &windowed, 60);
        windowed.problem.alibi_slopes = Some(vec![0.5, 0.25]);
        check(gpu, &windowed, 61);
    });
}

#[test]
fn the_last_nodes_of_a_tree_see_what_they_see_among_all() {
    use sunfleck::tree::{DraftTree, DrawKind};
    on_every_adapter(|gpu| {
        let nodes = 40;
        let mut random = Random(78);
        let mut parents: Vec<u32> = (0..nodes).map(|i: u32| random.below(i.max(1))).collect();
        parents[0] = sunfleck::tree::NONE;
        let tree = DraftTree::from_parents((0..nodes).collect(), parents, DrawKind::TopK).unwrap();
        for window in [None, Some(21)] {
            for invariant in [true, false] {
                let whole_of = |queries: u32, mask: Mask| {
                    let mut case = case(6, 2, 32, queries, 300);
                    case.problem.mask = mask;
                    case.problem.window = window;
                    case.problem.invariant = invariant;
                    case.trees.push(tree.clone());
                    case
                };
                let whole = whole_of(nodes, Mask::Tree { max_nodes: 64 });
                let inputs = whole.inputs(79);
                let expected = whole.run(gpu, &inputs).unwrap().output;
                for queries in [1, 5, 33, nodes] {
                    let end = whole_of(queries, Mask::TreeEnd { max_nodes: 64 });
                    let row = 6 * 32;
                    let first = (nodes - queries) as usize * row;
                    let of_end = super::case::Inputs {
                        q: inputs.q[first..].to_vec(),
                        ..inputs.clone()
                    };
                    let got = end.run(gpu, &of_end).unwrap().output;
                    let what = format!("{}: {queries} queries, window {window:?}", gpu.name);
                    for (own, expected) in got.iter().zip(&expected[first..]) {
                        match invariant {
                            true => assert_eq!(own.to_bits(), expected.to_bits(), "{what}"),
                            false => assert!((own - expected).abs() < 1e-5, "{what}"),
                        }
                    }
                }
            }
        }
    });
}
