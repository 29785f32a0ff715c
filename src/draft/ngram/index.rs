//! The index of n-grams: where each one occurred.

use std::collections::HashMap;

use super::MAX_NGRAM;
use crate::tree::NONE;

/// An n-gram, padded with zeros; the map it is a key of tells its length.
type Ngram = [u32; MAX_NGRAM];

/// Where each n-gram occurred, kept up to date token by token.
///
/// An occurrence is named by its end: the index of the token that follows it. Only occurrences with a
/// token after them are held, so the suffix itself is never found.
#[derive(Debug, Clone)]
pub(super) struct NgramIndex {
    /// The tokens whose n-grams are held, and the newest token, which no n-gram is followed by yet.
    seen: Vec<u32>,
    /// One table a length, the shortest first.
    tables: Vec<NgramTable>,
}

#[derive(Debug, Clone)]
struct NgramTable {
    /// Tokens of an n-gram.
    length: usize,
    /// End of the most recent occurrence.
    latest: HashMap<Ngram, u32>,
    /// For each end, the end of the occurrence before it of the same n-gram; [`NONE`] for the first.
    earlier: Vec<u32>,
}

impl NgramIndex {
    pub(super) fn new(min_ngram: usize, max_ngram: usize) -> Self {
        let tables = (min_ngram..=max_ngram)
            .map(|length| NgramTable {
                length,
                latest: HashMap::new(),
                earlier: Vec::new(),
            })
            .collect();
        NgramIndex {
            seen: Vec::new(),
            tables,
        }
    }

    pub(super) fn clear(&mut self) {
        self.seen.clear();
        for table in &mut self.tables {
            table.latest.clear();
            table.earlier.clear();
        }
    }

    /// Adds what `committed` has beyond the tokens seen; starts anew when it does not continue them.
    pub(super) fn extend(&mut self, committed: &[u32]) {
        if !committed.starts_with(&self.seen) {
            self.clear();
        }
        // Positions are u32; what lies beyond is not searched.
        let committed = &committed[..committed.len().min(NONE as usize)];
        // The newest token was the end of no n-gram yet: its index is the first new end.
        let first = self.seen.len();
        self.seen
            .extend_from_slice(&committed[first.min(committed.len())..]);
        for table in &mut self.tables {
            for end in first..committed.len() {
                let before = match last_ngram(&committed[..end], table.length) {
                    Some(ngram) => table.latest.insert(ngram, end as u32).unwrap_or(NONE),
                    None => NONE,
                };
                table.earlier.push(before);
            }
        }
    }

    /// Ends of the earlier occurrences of the longest suffix that has one, the most recent first.
    pub(super) fn occurrences<'a>(&'a self, committed: &[u32]) -> impl Iterator<Item = usize> + 'a {
        let found = self.tables.iter().rev().find_map(|table| {
            let suffix = last_ngram(committed, table.length)?;
            Some((table, *table.latest.get(&suffix)?))
        });
        let latest = found.map(|(_, latest)| latest);
        std::iter::successors(latest, move |&end| {
            let (table, _) = found?;
            table
                .earlier
                .get(end as usize)
                .copied()
                .filter(|&end| end != NONE)
        })
        .map(|end| end as usize)
    }
}

/// The last `length` tokens as the key of a table; `None` when there are fewer.
fn last_ngram(tokens: &[u32], length: usize) -> Option<Ngram> {
    let tokens = &tokens[tokens.len().checked_sub(length)?..];
    let mut ngram = [0; MAX_NGRAM];
    ngram.get_mut(..length)?.copy_from_slice(tokens);
    Some(ngram)
}
