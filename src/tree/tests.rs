use super::*;
use proptest::prelude::*;

/// ```text
/// 0 ─┬─ 1 ─┬─ 3
///    │     └─ 4 ── 6
///    └─ 2 ── 5
/// ```
fn small() -> DraftTree {
    DraftTree::from_parents(
        vec![9, 10, 11, 12, 13, 10, 15],
        vec![NONE, 0, 0, 1, 1, 2, 4],
        DrawKind::TopK,
    )
    .unwrap()
}

fn from_parents(tokens: &[u32], parents: &[u32]) -> Result<DraftTree, TreeError> {
    DraftTree::from_parents(tokens.to_vec(), parents.to_vec(), DrawKind::TopK)
}

#[test]
fn fields_follow_from_the_parents() {
    let tree = small();
    assert_eq!(tree.len(), 7);
    assert_eq!(tree.drafted(), 6);
    assert_eq!(tree.first_children(), [1, 3, 5, NONE, 6, NONE, NONE]);
    assert_eq!(tree.next_siblings(), [NONE, 2, NONE, 4, NONE, NONE, NONE]);
    assert_eq!(tree.depths(), [0, 1, 1, 2, 2, 2, 3]);
    assert_eq!(tree.dfs_in(), [0, 1, 5, 2, 3, 6, 4]);
    assert_eq!(tree.dfs_out(), [7, 5, 7, 3, 5, 7, 5]);
    assert_eq!(tree.q_rows(), [NONE, 0, 0, 1, 1, 2, 3]);
    assert_eq!(
        tree.ancestors(),
        [0b1, 0b11, 0b101, 0b1011, 0b10011, 0b100101, 0b1010011]
    );
    assert_eq!(tree.max_depth(), 3);
    assert!(!tree.is_chain());
}

#[test]
fn chain_is_a_tree_with_one_child_a_node() {
    let tree = DraftTree::chain(5, &[6, 7, 7]).unwrap();
    assert!(tree.is_chain());
    assert_eq!(tree.tokens(), [5, 6, 7, 7]);
    assert_eq!(tree.parents(), [NONE, 0, 1, 2]);
    assert_eq!(tree.q_rows(), [NONE, 0, 1, 2]);
    assert_eq!(tree, from_parents(&[5, 6, 7, 7], &[NONE, 0, 1, 2]).unwrap());
    assert_eq!(DraftTree::chain(5, &[]).unwrap(), DraftTree::root_only(5));
    assert!(DraftTree::root_only(5).is_chain());
    assert_eq!(DraftTree::root_only(5).max_depth(), 0);
}

#[test]
fn paths_start_at_the_root() {
    let tree = small();
    assert_eq!(tree.path_to(0), Some(vec![0]));
    assert_eq!(tree.path_to(6), Some(vec![0, 1, 4, 6]));
    assert_eq!(tree.path_to(7), None);
    assert!(tree.sees(6, 1) && !tree.sees(1, 6) && !tree.sees(6, 2) && !tree.sees(7, 0));
}

#[test]
fn children_come_in_draw_order() {
    let tree = small();
    assert_eq!(tree.children(1).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(tree.children(6).count(), 0);
    assert_eq!(tree.children(99).count(), 0);
}

#[test]
fn a_tree_needs_a_root() {
    assert_eq!(from_parents(&[], &[]), Err(TreeError::Empty));
    assert_eq!(
        from_parents(&[1], &[0]),
        Err(TreeError::RootHasParent { parent: 0 })
    );
    assert_eq!(
        from_parents(&[1, 2], &[NONE, NONE]),
        Err(TreeError::SecondRoot { node: 1 })
    );
}

#[test]
fn a_tree_needs_a_token_and_a_parent_a_node() {
    assert_eq!(
        from_parents(&[1, 2], &[NONE]),
        Err(TreeError::Lengths {
            tokens: 2,
            parents: 1
        })
    );
}

#[test]
fn forward_parent_is_told_from_cycle() {
    let forward = from_parents(&[0, 1, 2], &[NONE, 2, 0]);
    assert_eq!(
        forward,
        Err(TreeError::ForwardParent { node: 1, parent: 2 })
    );
    let own = from_parents(&[0, 1, 2], &[NONE, 1, 0]);
    assert_eq!(own, Err(TreeError::Cycle { node: 1, parent: 1 }));
    let pair = from_parents(&[0, 1, 2], &[NONE, 2, 1]);
    assert_eq!(pair, Err(TreeError::Cycle { node: 1, parent: 2 }));
    // Node 1 hangs below a cycle without being in it.
    let below = from_parents(&[0, 1, 2, 3], &[NONE, 2, 3, 2]);
    assert_eq!(below, Err(TreeError::ForwardParent { node: 1, parent: 2 }));
}

#[test]
fn parent_outside_the_tree_is_refused() {
    let error = from_parents(&[0, 1], &[NONE, 2]);
    assert_eq!(
        error,
        Err(TreeError::UnknownParent {
            node: 1,
            parent: 2,
            nodes: 2
        })
    );
}

#[test]
fn equal_siblings_need_an_independent_draw() {
    let build = |draw| DraftTree::from_parents(vec![0, 5, 5], vec![NONE, 0, 0], draw);
    for draw in [DrawKind::TopK, DrawKind::WithoutReplacement] {
        let error = TreeError::DuplicateSiblings {
            first: 1,
            second: 2,
            token: 5,
            draw,
        };
        assert_eq!(build(draw), Err(error));
    }
    let iid = build(DrawKind::Iid).unwrap();
    assert!(iid.with_draw(DrawKind::TopK).is_err());
    // Cousins may repeat a token.
    assert!(from_parents(&[0, 1, 2, 5, 5], &[NONE, 0, 0, 1, 2]).is_ok());
}

#[test]
fn too_many_nodes_are_refused() {
    let tokens = vec![0; MAX_NODES];
    let error = TreeError::TooManyNodes {
        given: MAX_NODES + 1,
        max: MAX_NODES,
    };
    assert_eq!(DraftTree::chain(0, &tokens), Err(error));
    assert_eq!(
        DraftTree::chain(0, &tokens[1..]).unwrap().max_depth() as usize,
        MAX_NODES - 1
    );
    let error = TreeError::TooManyNodes { given: 7, max: 6 };
    assert_eq!(small().blob(6), Err(error));
}

#[test]
fn medusa_paths_take_candidates_by_rank() {
    let paths = [vec![0, 1], vec![1], vec![0], vec![0, 0]];
    let candidates = [vec![10, 11], vec![20, 21]];
    let tree = DraftTree::from_paths(7, &paths, &candidates).unwrap();
    assert_eq!(tree.tokens(), [7, 10, 11, 20, 21]);
    assert_eq!(tree.parents(), [NONE, 0, 0, 1, 1]);
    assert_eq!(tree.draw(), DrawKind::TopK);
}

#[test]
fn medusa_paths_name_what_is_missing() {
    let candidates = [vec![10, 11], vec![20]];
    let build = |paths: &[Vec<usize>]| DraftTree::from_paths(7, paths, &candidates).unwrap_err();
    assert_eq!(
        build(&[vec![0], vec![1, 0]]),
        TreeError::MissingPrefix { path: 1 }
    );
    assert_eq!(
        build(&[vec![0], vec![0]]),
        TreeError::RepeatedPath { path: 1 }
    );
    assert_eq!(build(&[vec![]]), TreeError::RepeatedPath { path: 0 });
    let error = TreeError::MissingCandidate {
        path: 1,
        depth: 2,
        rank: 1,
        given: 1,
    };
    assert_eq!(build(&[vec![0], vec![0, 1]]), error);
    let error = TreeError::MissingCandidate {
        path: 2,
        depth: 3,
        rank: 0,
        given: 0,
    };
    assert_eq!(build(&[vec![0], vec![0, 0], vec![0, 0, 0]]), error);
    assert!(matches!(
        DraftTree::from_paths(7, &[vec![0], vec![1]], &[vec![3, 3]]),
        Err(TreeError::DuplicateSiblings { .. })
    ));
}

#[test]
fn merged_sequences_share_their_beginnings() {
    let tree = DraftTree::merge(0, &[vec![1, 2, 3], vec![1, 4], vec![5], vec![1, 2]], 64).unwrap();
    assert_eq!(tree.tokens(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(tree.parents(), [NONE, 0, 1, 2, 1, 0]);
}

#[test]
fn merge_stops_at_the_node_limit_and_earlier_sequences_win() {
    let sequences = [vec![1, 2, 3], vec![1, 4]];
    assert_eq!(
        DraftTree::merge(0, &sequences, 3).unwrap().tokens(),
        [0, 1, 2]
    );
    assert_eq!(
        DraftTree::merge(0, &sequences, 1).unwrap(),
        DraftTree::root_only(0)
    );
    assert_eq!(DraftTree::merge(0, &sequences, 0), Err(TreeError::Empty));
    let endless = vec![(0..10_000).collect::<Vec<u32>>()];
    assert_eq!(
        DraftTree::merge(0, &endless, usize::MAX).unwrap().len(),
        MAX_NODES
    );
}

#[test]
fn q_rows_belong_to_parents() {
    let rows = vec![NONE, 4, 4, 9, 9, 1, 0];
    assert_eq!(small().with_q_rows(rows.clone()).unwrap().q_rows(), rows);
    let error = TreeError::ProbabilityRow { node: 2, row: 5 };
    assert_eq!(
        small().with_q_rows(vec![NONE, 4, 5, 9, 9, 1, 0]),
        Err(error)
    );
    let error = TreeError::ProbabilityRow { node: 0, row: 3 };
    assert_eq!(small().with_q_rows(vec![3, 4, 4, 9, 9, 1, 0]), Err(error));
    assert!(small().with_q_rows(vec![NONE]).is_err());
}

#[test]
fn blob_has_the_documented_layout() {
    let blob = small().blob(40).unwrap();
    assert_eq!(blob.len(), 8 * 40 + 40 * 2);
    assert_eq!(blob[..8], [9, 10, 11, 12, 13, 10, 15, NONE]);
    assert_eq!(blob[40..42], [NONE, 0]);
    assert_eq!(blob[4 * 40 + 6], 3);
    assert_eq!(blob[6 * 40], 7);
    let row = &blob[ancestors_offset(40) + 6 * ancestor_words(40)..][..2];
    assert_eq!(row, [0b1010011, 0]);
    assert!(
        blob[ancestors_offset(40) + 7 * 2..]
            .iter()
            .all(|&word| word == 0)
    );
}

#[test]
fn damaged_blob_is_refused() {
    let blob = small().blob(8).unwrap();
    for field in BlobField::ALL {
        let mut damaged = blob.clone();
        damaged[field_offset(field, 8) + 6] ^= 1;
        let read = DraftTree::from_blob(&damaged, 8, DrawKind::TopK);
        // Another token is another tree, and a row of its own is another numbering: both are legal.
        let is_legal = matches!(field, BlobField::Token | BlobField::QRow);
        assert_eq!(read.is_ok(), is_legal, "{field:?}: {read:?}");
    }
    let mut damaged = blob.clone();
    damaged[ancestors_offset(8) + 6] ^= 0b100;
    let error = TreeError::BlobField {
        field: "ancestors",
        node: 6,
    };
    assert_eq!(
        DraftTree::from_blob(&damaged, 8, DrawKind::TopK),
        Err(error)
    );
    assert!(DraftTree::from_blob(&blob[1..], 8, DrawKind::TopK).is_err());
    assert!(DraftTree::from_blob(&[], 0, DrawKind::TopK).is_err());
    assert!(DraftTree::from_blob(&[], usize::MAX, DrawKind::TopK).is_err());
}

#[test]
fn drawing_shows_the_branches() {
    let text = small().to_text(|token| {
        if token == 15 {
            "a\nb".into()
        } else {
            token.to_string()
        }
    });
    let expected = "\
9
├─ 10
│  ├─ 12
│  └─ 13
│     └─ a\\nb
└─ 11
   └─ 10
";
    assert_eq!(text, expected);
}

/// Any tree in parents-first order; tokens are the node numbers, so siblings differ.
fn any_tree() -> impl Strategy<Value = DraftTree> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..90).prop_map(|choices| {
        let parents = std::iter::once(NONE)
            .chain(
                choices
                    .iter()
                    .enumerate()
                    .map(|(i, choice)| choice.index(i + 1) as u32),
            )
            .collect();
        let tokens = (0..=choices.len() as u32).collect();
        DraftTree::from_parents(tokens, parents, DrawKind::TopK).unwrap()
    })
}

proptest! {
    #[test]
    fn interval_equals_ancestor_words_equals_walk(tree in any_tree()) {
        let words = tree.ancestor_row_words();
        for node in 0..tree.len() {
            let path = tree.path_to(node).unwrap();
            prop_assert_eq!(path.len() as u32, tree.depths()[node] + 1);
            for ancestor in 0..tree.len() {
                let walked = path.contains(&(ancestor as u32));
                let word = tree.ancestors()[node * words + ancestor / 32];
                prop_assert_eq!(tree.sees(node, ancestor), walked);
                prop_assert_eq!(word >> (ancestor % 32) & 1 == 1, walked);
            }
        }
    }

    #[test]
    fn preorder_is_a_permutation_and_children_partition_the_nodes(tree in any_tree()) {
        let mut order: Vec<u32> = tree.dfs_in().to_vec();
        order.sort_unstable();
        prop_assert_eq!(order, (0..tree.len() as u32).collect::<Vec<_>>());
        let mut children: Vec<usize> = (0..tree.len()).flat_map(|node| tree.children(node)).collect();
        children.sort_unstable();
        prop_assert_eq!(children, (1..tree.len()).collect::<Vec<_>>());
        for node in 0..tree.len() {
            let of_node: Vec<usize> = tree.children(node).collect();
            prop_assert!(of_node.is_sorted());
            prop_assert!(of_node.iter().all(|&child| tree.parents()[child] as usize == node));
        }
    }

    #[test]
    fn blob_round_trips_at_any_stride(tree in any_tree(), spare in 0usize..70) {
        let stride = tree.len() + spare;
        let blob = tree.blob(stride).unwrap();
        prop_assert_eq!(blob.len(), blob_words(stride));
        prop_assert_eq!(DraftTree::from_blob(&blob, stride, DrawKind::TopK).unwrap(), tree);
    }

    #[test]
    fn arbitrary_lists_give_a_tree_or_an_error(
        tokens in prop::collection::vec(0u32..4, 0..12),
        parents in prop::collection::vec(prop_oneof![Just(NONE), 0u32..12, any::<u32>()], 0..12),
    ) {
        if let Ok(tree) = from_parents(&tokens, &parents) {
            prop_assert!((1..tree.len()).all(|node| (tree.parents()[node] as usize) < node));
        }
    }

    #[test]
    fn every_merged_sequence_is_a_path(
        sequences in prop::collection::vec(prop::collection::vec(0u32..3, 0..6), 0..6),
    ) {
        let tree = DraftTree::merge(8, &sequences, 1000).unwrap();
        for sequence in &sequences {
            let mut node = 0;
            for &token in sequence {
                node = tree.children(node).find(|&child| tree.tokens()[child] == token).unwrap();
            }
        }
        let paths: std::collections::HashSet<&[u32]> =
            sequences.iter().flat_map(|s| (0..=s.len()).map(|end| &s[..end])).collect();
        prop_assert_eq!(tree.len(), paths.len().max(1));
    }

    #[test]
    fn arbitrary_words_are_a_tree_or_an_error(
        mut words in prop::collection::vec(
            prop_oneof![Just(NONE), 0u32..10, any::<u32>()],
            blob_words(9),
        ),
        stride in 0usize..12,
    ) {
        words.truncate(blob_words(stride));
        if let Ok(tree) = DraftTree::from_blob(&words, stride, DrawKind::Iid) {
            let again = tree.blob(stride).unwrap();
            prop_assert_eq!(DraftTree::from_blob(&again, stride, DrawKind::Iid).unwrap(), tree);
        }
    }

    #[test]
    fn one_changed_word_of_a_blob_is_seen(
        tree in any_tree(),
        place in any::<prop::sample::Index>(),
        value in prop_oneof![Just(NONE), 0u32..100, any::<u32>()],
    ) {
        let stride = tree.len();
        let mut blob = tree.blob(stride).unwrap();
        let word = place.index(blob.len());
        let same = blob[word] == value;
        blob[word] = value;
        let is_token = word < stride;
        let read = DraftTree::from_blob(&blob, stride, DrawKind::Iid);
        // Draft rows may be numbered in any way.
        let q_rows = field_offset(BlobField::QRow, stride)..field_offset(BlobField::QRow, stride) + stride;
        if !is_token && !q_rows.contains(&word) {
            prop_assert_eq!(read.is_ok(), same, "word {} is {}", word, value);
        }
    }

    #[test]
    fn paths_in_any_order_give_the_tree_that_has_them(
        tree in any_tree(),
        order in any::<u64>(),
        drop in any::<prop::sample::Index>(),
    ) {
        // Ranks of a random tree, shuffled.
        let mut paths: Vec<Vec<usize>> = vec![Vec::new()];
        for node in 1..tree.len() {
            let parent = tree.parents()[node] as usize;
            let rank = tree.children(parent).position(|child| child == node).unwrap();
            let mut path = paths[parent].clone();
            path.push(rank);
            paths.push(path);
        }
        let mut drafted = paths.split_off(1);
        let mut state = order | 1;
        for i in (1..drafted.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            drafted.swap(i, (state >> 33) as usize % (i + 1));
        }
        let ranks: Vec<Vec<u32>> = vec![(0..90).collect(); 90];
        let built = DraftTree::from_paths(7, &drafted, &ranks).unwrap();
        prop_assert_eq!(built.len(), tree.len());
        for path in &drafted {
            let mut node = 0;
            for &rank in path {
                node = built.children(node).nth(rank).unwrap();
                prop_assert_eq!(built.tokens()[node], rank as u32);
            }
        }
        // Without an inner path the ones below it hang in the air.
        if !drafted.is_empty() {
            let gone = drafted.remove(drop.index(drafted.len()));
            let orphaned = drafted.iter().any(|path| path.starts_with(&gone));
            prop_assert_eq!(DraftTree::from_paths(7, &drafted, &ranks).is_err(), orphaned);
        }
    }
}
