use super::*;
use crate::tree::NONE;
use proptest::prelude::*;

fn options(min_ngram: usize, max_ngram: usize, max_tokens: usize) -> NgramOptions {
    NgramOptions {
        max_ngram,
        min_ngram,
        max_tokens,
        ..NgramOptions::default()
    }
}

fn draft(drafter: &mut NgramDrafter, committed: &[u32]) -> DraftTree {
    let drafted = drafter.draft(&DraftContext::new(committed, 64, 64));
    drafted.unwrap().tree().clone()
}

fn drafted(options: NgramOptions, committed: &[u32]) -> Vec<u32> {
    draft(&mut NgramDrafter::new(options).unwrap(), committed).tokens()[1..].to_vec()
}

#[test]
fn tokens_after_the_match_are_drafted() {
    assert_eq!(drafted(options(2, 4, 3), &[1, 2, 3, 4, 5, 1, 2]), [3, 4, 5]);
}

#[test]
fn root_alone_without_a_match() {
    let mut drafter = NgramDrafter::new(options(2, 4, 8)).unwrap();
    assert_eq!(draft(&mut drafter, &[1, 2, 3]), DraftTree::root_only(3));
    assert_eq!(draft(&mut drafter, &[1]), DraftTree::root_only(1));
    // One token alone is a match only when configured.
    assert!(drafted(options(2, 4, 1), &[5, 6, 5]).is_empty());
    assert_eq!(drafted(options(1, 4, 1), &[5, 6, 5]), [6]);
}

#[test]
fn longest_match_wins_over_a_more_recent_one() {
    // "1 2 3" was followed by 7; "2 3" more recently by 8.
    assert_eq!(
        drafted(options(2, 4, 1), &[1, 2, 3, 7, 9, 2, 3, 8, 1, 2, 3]),
        [7]
    );
}

#[test]
fn most_recent_of_equal_matches_wins() {
    assert_eq!(drafted(options(2, 2, 1), &[1, 2, 7, 1, 2, 8, 1, 2]), [8]);
}

#[test]
fn repetition_is_drafted_to_the_full_length() {
    assert_eq!(drafted(options(2, 4, 5), &[1, 2, 1, 2]), [1, 2, 1, 2, 1]);
    assert_eq!(drafted(options(2, 4, 4), &[6, 6, 6]), [6, 6, 6, 6]);
}

#[test]
fn room_bounds_the_draft() {
    let committed = [1, 2, 3, 4, 5, 6, 1, 2];
    for (max_nodes, max_depth, expected) in
        [(64, 2, 2), (3, 64, 2), (1, 64, 0), (64, 0, 0), (64, 64, 8)]
    {
        let mut drafter = NgramDrafter::new(NgramOptions::default()).unwrap();
        let context = DraftContext::new(&committed, max_nodes, max_depth);
        let drafted = drafter.draft(&context).unwrap();
        let tree = drafted.tree();
        assert_eq!(tree.drafted(), expected);
        assert_eq!(tree.tokens()[0], 2);
    }
}

#[test]
fn limitless_room_gives_a_tree_of_the_largest_size() {
    let mut drafter = NgramDrafter::new(options(2, 4, usize::MAX)).unwrap();
    let context = DraftContext::new(&[1, 2, 1, 2], usize::MAX, usize::MAX);
    let drafted = drafter.draft(&context).unwrap();
    let tree = drafted.tree();
    assert_eq!(tree.len(), MAX_NODES);
}

#[test]
fn several_matches_merge_into_a_tree() {
    let options = NgramOptions {
        matches: 3,
        ..options(2, 2, 2)
    };
    let committed = [1, 2, 7, 8, 1, 2, 7, 9, 1, 2, 5, 6, 1, 2];
    let tree = draft(&mut NgramDrafter::new(options).unwrap(), &committed);
    // The most recent first: "5 6", then "7 9" and "7 8" with their beginning shared.
    assert_eq!(tree.tokens(), [2, 5, 6, 7, 9, 8]);
    assert_eq!(tree.parents(), [NONE, 0, 1, 0, 3, 3]);
}

#[test]
fn length_follows_success() {
    let mut drafter = NgramDrafter::new(options(2, 4, 8)).unwrap();
    let committed = [1, 2, 1, 2];
    let tree = draft(&mut drafter, &committed);
    for length in [7, 6, 5, 4, 3, 2, 1, 1] {
        drafter.observe(&Outcome::new(&tree, &[]));
        assert_eq!(draft(&mut drafter, &committed).drafted(), length);
    }
    for length in [3, 5, 7, 8, 8] {
        let tree = draft(&mut drafter, &committed);
        let accepted = tree.tokens()[1..].to_vec();
        drafter.observe(&Outcome::new(&tree, &accepted));
        assert_eq!(draft(&mut drafter, &committed).drafted(), length);
    }
    // A step without a draft changes nothing.
    drafter.observe(&Outcome::new(&DraftTree::root_only(1), &[]));
    assert_eq!(draft(&mut drafter, &committed).drafted(), 8);
}

#[test]
fn fixed_length_ignores_success() {
    let mut drafter = NgramDrafter::new(NgramOptions {
        adapt: false,
        ..options(2, 4, 8)
    })
    .unwrap();
    let tree = draft(&mut drafter, &[1, 2, 1, 2]);
    drafter.observe(&Outcome::new(&tree, &[]));
    assert_eq!(draft(&mut drafter, &[1, 2, 1, 2]).drafted(), 8);
}

#[test]
fn another_sequence_is_noticed() {
    let mut drafter = NgramDrafter::new(options(2, 4, 2)).unwrap();
    draft(&mut drafter, &[1, 2, 3, 1, 2]);
    // Same length, other tokens: the old "1 2 3" must not be found.
    assert_eq!(draft(&mut drafter, &[4, 5, 6, 1, 2]).drafted(), 0);
    // Rewound.
    assert_eq!(draft(&mut drafter, &[4, 5]).drafted(), 0);
    assert_eq!(draft(&mut drafter, &[4, 5, 4, 5]).tokens()[1..], [4, 5]);
    drafter.reset();
    assert_eq!(draft(&mut drafter, &[4, 5]).drafted(), 0);
}

#[test]
fn options_outside_their_range_are_named() {
    let option = |options| match NgramDrafter::new(options) {
        Err(DraftError::Option { option, .. }) => option,
        other => panic!("{other:?}"),
    };
    assert_eq!(option(options(1, MAX_NGRAM + 1, 1)), "max_ngram");
    assert_eq!(option(options(0, 0, 1)), "max_ngram");
    assert_eq!(option(options(0, 4, 1)), "min_ngram");
    assert_eq!(option(options(4, 3, 1)), "min_ngram");
    assert_eq!(option(options(2, 4, 0)), "max_tokens");
    assert_eq!(
        option(NgramOptions {
            matches: 0,
            ..NgramOptions::default()
        }),
        "matches"
    );
}

/// The definition, word for word: rescan everything.
fn rescan(committed: &[u32], options: &NgramOptions) -> Vec<u32> {
    for length in (options.min_ngram..=options.max_ngram).rev() {
        if committed.len() <= length {
            continue;
        }
        let suffix = &committed[committed.len() - length..];
        for start in (0..committed.len() - length).rev() {
            if &committed[start..start + length] == suffix {
                let mut text = committed.to_vec();
                for i in 0..options.max_tokens {
                    text.push(text[start + length + i]);
                }
                return text[committed.len()..].to_vec();
            }
        }
    }
    Vec::new()
}

proptest! {
    #[test]
    fn index_equals_a_rescan(
        tokens in prop::collection::vec(0u32..4, 1..80),
        steps in prop::collection::vec(1usize..6, 1..30),
        min_ngram in 1usize..4,
        longer in 0usize..4,
        max_tokens in 1usize..6,
    ) {
        let options = NgramOptions { adapt: false, ..options(min_ngram, min_ngram + longer, max_tokens) };
        let mut drafter = NgramDrafter::new(options).unwrap();
        let mut length = 0;
        for step in steps {
            length = tokens.len().min(length + step);
            let committed = &tokens[..length];
            let tree = draft(&mut drafter, committed);
            prop_assert_eq!(&tree.tokens()[1..], rescan(committed, &options));
        }
    }

    #[test]
    fn history_does_not_change_the_draft(
        sequences in prop::collection::vec(prop::collection::vec(0u32..3, 1..30), 1..6),
    ) {
        let options = NgramOptions { adapt: false, matches: 3, ..NgramOptions::default() };
        let mut used = NgramDrafter::new(options).unwrap();
        for committed in &sequences {
            let mut fresh = NgramDrafter::new(options).unwrap();
            prop_assert_eq!(draft(&mut used, committed), draft(&mut fresh, committed));
        }
    }
}
