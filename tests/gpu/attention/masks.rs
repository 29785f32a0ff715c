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
