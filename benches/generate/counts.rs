//! What drafts are worth over places and over steps.

/// Tokens of a chain.
pub const DEPTH: usize = 4;

/// A text, and who wrote what of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// Its tokens.
    pub ids: Vec<u32>,
    /// Which of them the model wrote.
    pub written: Vec<bool>,
    /// Whether it wrote greedily where it answered.
    pub greedy: bool,
}

/// What a draft behind one token was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Drafted tokens that were right.
    pub right: usize,
    /// The model's own next token.
    pub next: u32,
}

/// Counts over places and over steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Places of which the model's likeliest tokens are the text's: the next one and those of the chain.
    pub places: usize,
    /// Of these, those with `i + 1` right drafted tokens or more.
    pub right: [usize; DEPTH],
    /// Places where the model wrote the token that is drafted first.
    pub written: usize,
    /// Of these, those where it was the model's likeliest.
    pub first_right: usize,
    /// Steps of a loop over the greedy texts.
    pub steps: usize,
    /// Drafted tokens that they kept.
    pub kept: usize,
}

impl Counts {
    /// Counts `places`, the first of which is behind token `start`, of the first `most` tokens that the model wrote.
    pub fn add(&mut self, text: &Text, start: usize, places: &[Place], most: usize) {
        let end = text
            .ids
            .len()
            .min(start.saturating_add(most).saturating_add(1));
        let place = |root: usize| places.get(root.checked_sub(start)?);
        for root in start..end {
            let Some(here) = place(root) else {
                continue;
            };
            if root + 1 < end && text.written[root + 1] {
                self.written += 1;
                self.first_right += usize::from(here.right > 0);
            }
            // As the drafters' own statistics have it: the token of the place and those of the chain are greedy.
            let follows = |at: usize| {
                let before = at.checked_sub(1).and_then(place);
                at < end && before.is_some_and(|before| before.next == text.ids[at])
            };
            if text.written[root] && (root..=root + DEPTH).all(follows) {
                self.places += 1;
                for (i, right) in self.right.iter_mut().enumerate() {
                    *right += usize::from(here.right > i);
                }
            }
        }
        if text.greedy {
            // The first written token comes of the prompt.
            let mut root = start + 1;
            while let Some(here) = place(root).filter(|_| root + 1 < end) {
                let kept = here.right.min(end - 1 - root);
                self.steps += 1;
                self.kept += kept;
                root += kept + 1;
            }
        }
    }

    /// Right drafted tokens a place.
    pub fn kept_a_place(&self) -> f64 {
        share(self.right.iter().sum(), self.places)
    }
}

/// `of` as a share of `all`.
pub fn share(of: usize, all: usize) -> f64 {
    of as f64 / all.max(1) as f64
}
