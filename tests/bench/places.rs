//! Counts of right drafts, by hand.

use crate::counts::{Counts, Place, Text};

/// A text of a prompt token and ten that the model wrote, greedily but for the one at 6, and places behind each from the
/// prompt on.
fn text() -> (Text, Vec<Place>) {
    let ids: Vec<u32> = (100..111).collect();
    let right = [0, 4, 1, 0, 0, 2, 0, 4, 3, 2, 1];
    let places = right.iter().enumerate().map(|(root, &right)| Place {
        right,
        // Behind 105 the likeliest was another token than 106.
        next: if root == 5 { 7 } else { 101 + root as u32 },
    });
    let text = Text {
        ids,
        written: (0..11).map(|i| i > 0).collect(),
        greedy: true,
    };
    (text, places.collect())
}

#[test]
fn places_count_where_the_next_five_tokens_are_greedy() {
    let (text, places) = text();
    let mut counts = Counts::default();
    counts.add(&text, 0, &places, usize::MAX);
    // Roots 1 to 5, but those with 106 among the next four drop out: only root 1 stays; 7 and later are too near the end
    // or follow 106.
    assert_eq!(counts.places, 1);
    assert_eq!(counts.right, [1, 1, 1, 1]);
    assert_eq!(counts.kept_a_place(), 4.0);
    // Of the ten roots before a written token, those with a right first token: 1, 2, 5, 7, 8, 9.
    assert_eq!((counts.written, counts.first_right), (10, 6));
}

#[test]
fn steps_go_on_behind_what_they_kept() {
    let (text, places) = text();
    let mut counts = Counts::default();
    counts.add(&text, 0, &places, usize::MAX);
    // Roots 1 (keeps 4), 6 (0), 7 (3, since the text ends).
    assert_eq!((counts.steps, counts.kept), (3, 7));
    // Of the first five written tokens: root 1 alone.
    let mut counts = Counts::default();
    counts.add(&text, 0, &places, 5);
    assert_eq!((counts.steps, counts.kept), (1, 4));
    // Texts that were drawn by chance have no greedy steps.
    let drawn = Text {
        greedy: false,
        ..text
    };
    let mut counts = Counts::default();
    counts.add(&drawn, 0, &places, usize::MAX);
    assert_eq!((counts.steps, counts.kept), (0, 0));
    assert_eq!(counts.places, 1);
}
