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
        let tree = DraftTree::from_parents(tokens, parents.clone(), DrawKind::TopK).unwrap();
        let (nodes, past) = (40, 260);
        let mut tree_case = case(6, 2, 32, nodes, past + nodes);
        tree_case.problem.mask = Mask::Tree { max_nodes: 64 };
        let mut words = vec![0; sunfleck::tree::blob_words(64)];
        tree.write_blob(64, &mut words).unwrap();
        let visible = |_: usize, query: usize, key: usize| {
            let Some(node) = key.checked_sub(past as usize) else {
                return true;
            };
            let mut at = query;
            while at > node {
                at = parents[at] as usize;
            }
            at == node
        };
        check_masked(gpu, &tree_case, 10, Some(&visible), Some(&words));
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
        let depths = [0i64, 1, 2, 3, 1, 2, 3];
        let tree = DraftTree::from_parents((0..7).collect(), parents, DrawKind::TopK).unwrap();
        let blob = tree.blob(8).unwrap();
        let (past, nodes, window) = (20usize, 7usize, 5i64);
        let mut windowed = case(2, 1, 32, nodes as u32, (past + nodes) as u32);
        windowed.problem.mask = Mask::Tree { max_nodes: 8 };
        windowed.problem.window = Some(window as u32);
        // As a closure the twin can't know depths, so the window is part of it.
        let visible = |_: usize, query: usize, key: usize| {
            let own = past as i64 + depths[query];
            match key.checked_sub(past) {
                None => own - (key as i64) < window,
                Some(node) => tree.sees(query, node) && own - past as i64 - depths[node] < window,
            }
        };
        let inputs = {
            let mut random = Random(60);
            [7 * 2 * 32, 27 * 32, 27 * 32].map(|n| random.normals(n))
        };
        let [q, k, v] = inputs.each_ref().map(|values| values.as_slice());
        let (got, _) = run(
            gpu,
            &windowed.problem,
            &windowed.sequences,
            [q, k, v],
            Some(&blob),
        );
        let shape = AttentionShape {
            batch: 1,
            query_heads: 2,
            kv_heads: 1,
            queries: nodes,
            keys: past + nodes,
            head_dim: 32,
            value_dim: 32,
        };
        let options = AttentionOptions {
            mask: twin::Mask::Visible(&visible),
            ..Default::default()
        };
        let expected = twin::attention(&shape, q, k, v, &options).unwrap();
        compare(&gpu.name, &got, &expected.output, Tolerance::F32).unwrap();
    });
}
