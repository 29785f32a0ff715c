//! Which pages of a pool belong to which sequence: the host's side of a paged cache.
//!
//! Pages are counted, not owned: a fork shares the pages of its parent, and a page is copied when one
//! of those who share it is about to write into it. Every operation either does all of its work or, when it
//! returns an error, none.

use super::CacheError;

/// What a table entry without a page holds.
pub const NO_PAGE: u32 = u32::MAX;

/// A sequence of a [`Pager`]. It stays valid until [`Pager::free`]; then the pager knows it no longer, even
/// when its row of the page table is given out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId {
    slot: u32,
    generation: u32,
}

impl SequenceId {
    /// Row of the page table, and index among the sequences of a step.
    pub fn slot(self) -> u32 {
        self.slot
    }
}

/// A page that must be copied on the GPU before the next append: see [`PageCopies`](super::PageCopies).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageCopy {
    /// The page to copy.
    pub from: u32,
    /// Where to.
    pub to: u32,
}

#[derive(Clone, Debug, Default)]
struct Sequence {
    generation: u32,
    live: bool,
    pages: Vec<u32>, // of the tokens 0, page_tokens, ...
    len: u32,        // committed tokens in the cache
    reserved: u32,   // tokens after them that have a place of their own
    gaps: Vec<Gap>,  // where tokens were evicted, ascending
}

/// Tokens that were evicted from one place.
#[derive(Clone, Copy, Debug)]
struct Gap {
    at: u32,      // kept tokens before it
    dropped: u32, // tokens
}

impl Sequence {
    /// Tokens that were dropped from before the end.
    fn evicted(&self) -> u32 {
        let dropped = self.gaps.iter().map(|gap| gap.dropped);
        dropped.fold(0, u32::saturating_add)
    }
}

/// The accounts of a pool of pages: which pages are free, and the page table of every sequence.
///
/// It knows nothing of the GPU and is cheap to clone, so that a step can be tried. A step is
/// [`reserve`](Self::reserve), the copies that it returned, append, attention, verification and commit on the
/// GPU, then [`commit`](Self::commit) with the path that the GPU accepted.
///
/// # Example
/// ```
/// use sunfleck::cache::Pager;
///
/// let mut pager = Pager::new(8, 16, 2, 64)?; // 8 pages of 16 tokens; 2 sequences of up to 64
/// let a = pager.create()?;
/// pager.reserve(&[(a, 20)])?;
/// pager.commit(a, 20)?;
/// assert_eq!((pager.len(a)?, pager.free_pages()), (20, 6));
///
/// // A fork shares both pages; the one that is not full is copied when either goes on.
/// let b = pager.fork(a)?;
/// assert_eq!(pager.free_pages(), 6);
/// let copies = pager.reserve(&[(b, 1)])?;
/// assert_eq!((copies.len(), pager.free_pages()), (1, 5));
/// # Ok::<(), sunfleck::cache::CacheError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pager {
    page_tokens: u32,
    capacity: u32,
    table_stride: u32,
    holders: Vec<u32>, // sequences that hold each page
    free: Vec<u32>,
    sequences: Vec<Sequence>,
}

impl Pager {
    /// The accounts of `pages` free pages of `page_tokens` tokens, for up to `sequences` sequences of up to
    /// `capacity` tokens.
    ///
    /// # Errors
    /// [`CacheError::PageTokens`], [`CacheError::Zero`], [`CacheError::TooLarge`].
    pub fn new(
        pages: u32,
        page_tokens: u32,
        sequences: u32,
        capacity: u32,
    ) -> Result<Self, CacheError> {
        if !page_tokens.is_power_of_two() || !(16..=256).contains(&page_tokens) {
            return Err(CacheError::PageTokens { page_tokens });
        }
        for (name, size) in [
            ("pages", pages),
            ("sequences", sequences),
            ("capacity", capacity),
        ] {
            if size == 0 {
                return Err(CacheError::Zero { name });
            }
        }
        // What a cache can have: kernels count tokens in i32, and a dispatch has no more workgroups along an axis.
        let (given, most) = (u64::from(sequences), 65_535);
        if given > most {
            return Err(CacheError::TooLarge {
                name: "sequences",
                given,
                most,
            });
        }
        let tokens = (u64::from(pages) * u64::from(page_tokens)).max(capacity.into());
        let entries = u64::from(capacity.div_ceil(page_tokens)) * u64::from(sequences);
        for (name, given) in [("tokens", tokens), ("entries of the page table", entries)] {
            let most = i32::MAX as u64;
            if given > most {
                return Err(CacheError::TooLarge { name, given, most });
            }
        }
        Ok(Self {
            page_tokens,
            capacity,
            table_stride: capacity.div_ceil(page_tokens),
            holders: vec![0; pages as usize],
            free: (0..pages).rev().collect(),
            sequences: vec![Sequence::default(); sequences as usize],
        })
    }

    /// Tokens of a page.
    pub fn page_tokens(&self) -> u32 {
        self.page_tokens
    }

    /// Pages that nobody holds.
    pub fn free_pages(&self) -> u32 {
        self.free.len() as u32
    }

    /// Pages of the pool.
    pub fn pages(&self) -> u32 {
        self.holders.len() as u32
    }

    /// Committed tokens of a sequence that are in the cache.
    ///
    /// # Errors
    /// [`CacheError::NoSequence`].
    pub fn len(&self, id: SequenceId) -> Result<u32, CacheError> {
        Ok(self.get(id)?.len)
    }

    /// Whether a sequence has no committed tokens.
    ///
    /// # Errors
    /// [`CacheError::NoSequence`].
    pub fn is_empty(&self, id: SequenceId) -> Result<bool, CacheError> {
        Ok(self.get(id)?.len == 0)
    }

    /// Tokens that were evicted: the next token's position is `len + evicted`.
    ///
    /// # Errors
    /// [`CacheError::NoSequence`].
    pub fn evicted(&self, id: SequenceId) -> Result<u32, CacheError> {
        Ok(self.get(id)?.evicted())
    }

    /// The words of a sequence for [`AppendIo::sequences`](super::AppendIo::sequences) and the lengths of
    /// attention: `rows` rows, `first_row` rows of other sequences before them (0 where rows are padded).
    ///
    /// # Errors
    /// [`CacheError::NoSequence`].
    pub fn step(&self, id: SequenceId, rows: u32, first_row: u32) -> Result<[u32; 4], CacheError> {
        let sequence = self.get(id)?;
        Ok([rows, sequence.len, first_row, sequence.evicted()])
    }

    /// A sequence's pages in the order of its tokens.
    ///
    /// # Errors
    /// [`CacheError::NoSequence`].
    pub fn pages_of(&self, id: SequenceId) -> Result<&[u32], CacheError> {
        Ok(&self.get(id)?.pages)
    }

    /// The page table of all sequences, `[sequence, capacity / page_tokens]`, [`NO_PAGE`] where there is
    /// none.
    pub fn table(&self) -> Vec<u32> {
        let mut table = vec![NO_PAGE; self.sequences.len() * self.table_stride as usize];
        let rows = table.chunks_mut(self.table_stride as usize);
        for (row, sequence) in rows.zip(&self.sequences) {
            for (entry, page) in row.iter_mut().zip(&sequence.pages) {
                *entry = *page;
            }
        }
        table
    }

    /// Tokens that all of the sequences share, in whole pages: the prefix of a
    /// [cascade](crate::attention::Cascade). 0 for no sequence.
    ///
    /// # Errors
    /// [`CacheError::NoSequence`].
    pub fn shared_prefix(&self, ids: &[SequenceId]) -> Result<u32, CacheError> {
        let Some((first, others)) = ids.split_first() else {
            return Ok(0);
        };
        let own = |id: &SequenceId| -> Result<&[u32], CacheError> {
            let sequence = self.get(*id)?;
            let whole = (sequence.len / self.page_tokens) as usize;
            Ok(sequence.pages.get(..whole).unwrap_or_default())
        };
        let mut shared = own(first)?.len();
        for other in others {
            let pairs = own(first)?.iter().zip(own(other)?);
            shared = shared.min(pairs.take_while(|(a, b)| a == b).count());
        }
        Ok(shared as u32 * self.page_tokens)
    }

    /// An empty sequence.
    ///
    /// # Errors
    /// [`CacheError::OutOfSequences`].
    pub fn create(&mut self) -> Result<SequenceId, CacheError> {
        let Some(slot) = self.sequences.iter().position(|sequence| !sequence.live) else {
            return Err(CacheError::OutOfSequences {
                sequences: self.sequences.len() as u32,
            });
        };
        let sequence = &mut self.sequences[slot];
        let generation = sequence.generation.wrapping_add(1);
        *sequence = Sequence {
            generation,
            live: true,
            ..Default::default()
        };
        Ok(SequenceId {
            slot: slot as u32,
            generation,
        })
    }

    /// A sequence with the same committed tokens, which shares their pages.
    ///
    /// # Errors
    /// [`CacheError::NoSequence`], [`CacheError::OutOfSequences`].
    pub fn fork(&mut self, id: SequenceId) -> Result<SequenceId, CacheError> {
        let parent = self.get(id)?.clone();
        let child = self.create()?;
        let used = parent.len.div_ceil(self.page_tokens) as usize;
        let pages = parent.pages.get(..used).unwrap_or_default();
        for page in pages {
            self.holders[*page as usize] += 1;
        }
        let sequence = &mut self.sequences[child.slot as usize];
        sequence.pages = pages.to_vec();
        sequence.len = parent.len;
        sequence.gaps = parent.gaps;
        Ok(child)
    }

    /// Gives each of the sequences room for so many tokens after its committed ones, in pages that it holds
    /// alone. The copies that are returned must be made on the GPU before anything is written there.
    ///
    /// A sequence may be named once. What it had reserved before counts.
    ///
    /// # Errors
    /// [`CacheError::NoSequence`], [`CacheError::SequenceFull`], [`CacheError::OutOfPages`]; nothing
    /// is changed then.
    pub fn reserve(&mut self, requests: &[(SequenceId, u32)]) -> Result<Vec<PageCopy>, CacheError> {
        let mut needed = 0;
        // A page that sequences of this call share needs one copy fewer than it has holders.
        let mut leaving: Vec<(u32, u32)> = Vec::new();
        for (at, (id, tokens)) in requests.iter().enumerate() {
            let sequence = self.get(*id)?;
            if requests[..at].iter().any(|(other, _)| other == id) {
                return Err(CacheError::Mismatch {
                    name: "requests",
                    given: requests.len() as u64,
                    needed: format!("sequence {} can be named only once", id.slot),
                });
            }
            if *tokens == 0 {
                continue; // nothing is written: no page is needed, and none is copied
            }
            let end = u64::from(sequence.len) + u64::from(*tokens);
            if end > u64::from(self.capacity) {
                return Err(CacheError::SequenceFull {
                    needed: end,
                    capacity: self.capacity,
                });
            }
            let pages = (end as u32).div_ceil(self.page_tokens) as usize;
            needed += pages.saturating_sub(sequence.pages.len()) as u32;
            for page in self.written(sequence, pages) {
                match leaving.iter_mut().find(|(shared, _)| *shared == page) {
                    Some((_, writers)) => *writers += 1,
                    None => leaving.push((page, 1)),
                }
            }
        }
        for (page, writers) in &leaving {
            // The last holder keeps the page.
            needed += (*writers).min(self.holders[*page as usize] - 1);
        }
        let free = self.free_pages();
        if needed > free {
            return Err(CacheError::OutOfPages {
                needed,
                free,
                pages: self.pages(),
                page_tokens: self.page_tokens,
            });
        }
        let mut copies = Vec::new();
        for (id, tokens) in requests.iter().filter(|(_, tokens)| *tokens > 0) {
            let slot = id.slot as usize;
            let sequence = &self.sequences[slot];
            let (len, tokens) = (sequence.len, (*tokens).max(sequence.reserved));
            let pages = (len + tokens).div_ceil(self.page_tokens) as usize;
            let first = (len / self.page_tokens) as usize;
            for at in first..pages {
                let held = self.sequences[slot].pages.get(at).copied();
                let Some(from) = held else {
                    let page = self.take();
                    self.sequences[slot].pages.push(page);
                    continue;
                };
                if self.holders[from as usize] > 1 {
                    let to = self.take();
                    self.holders[from as usize] -= 1;
                    self.sequences[slot].pages[at] = to;
                    // A page without committed tokens has nothing worth a copy.
                    if at as u32 * self.page_tokens < len {
                        copies.push(PageCopy { from, to });
                    }
                }
            }
            self.sequences[slot].reserved = tokens;
        }
        Ok(copies)
    }

    /// Pages of a sequence from its last committed token's on that others hold too.
    fn written(&self, sequence: &Sequence, pages: usize) -> Vec<u32> {
        let first = (sequence.len / self.page_tokens) as usize;
        let end = pages.min(sequence.pages.len());
        let held = sequence.pages.get(first..end).unwrap_or_default();
        let shared = held.iter().filter(|page| self.holders[**page as usize] > 1);
        shared.copied().collect()
    }

    /// A free page; `reserve` counted that there is one.
    fn take(&mut self) -> u32 {
        let page = self.free.pop().unwrap_or_default();
        self.holders[page as usize] += 1;
        page
    }

    /// Commits the first `tokens` reserved tokens: a prompt, or the accepted part of a chain with its root.
    ///
    /// # Errors
    /// [`CacheError::NoSequence`], and [`CacheError::Path`] for more than was reserved.
    pub fn commit(&mut self, id: SequenceId, tokens: u32) -> Result<(), CacheError> {
        let path: Vec<u32> = (0..tokens.min(self.get(id)?.reserved.saturating_add(1))).collect();
        self.commit_path(id, &path)
    }

    /// Commits the accepted nodes of a draft tree, the root first, as the GPU did: the `i`-th becomes the
    /// `i`-th token after the committed ones, and pages that move whole are exchanged in the table. What
    /// was reserved beyond them is given back.
    ///
    /// # Errors
    /// [`CacheError::NoSequence`], and [`CacheError::Path`] for a path that does not start with 0, ascend, and
    /// stay within what was reserved.
    pub fn commit_path(&mut self, id: SequenceId, path: &[u32]) -> Result<(), CacheError> {
        let sequence = self.get(id)?;
        let reserved = sequence.reserved;
        let ascends = path.is_sorted_by(|a, b| a < b);
        if path.first().is_some_and(|root| *root != 0)
            || !ascends
            || path.last().is_some_and(|last| *last >= reserved)
        {
            return Err(CacheError::Path {
                path: path.to_vec(),
                reserved,
            });
        }
        let (past, size) = (sequence.len, self.page_tokens);
        let exchanges = moved_pages(path, past, size);
        let sequence = &mut self.sequences[id.slot as usize];
        for (to, from) in exchanges {
            sequence.pages.swap(to as usize, from as usize);
        }
        sequence.len += path.len() as u32;
        sequence.reserved = 0;
        self.drop_unused(id.slot);
        Ok(())
    }

    /// Goes back to the first `len` tokens in the cache: a rollback, or an end of what was reserved. Where
    /// that goes back before tokens that were evicted, the next token stands after the last one that is left.
    ///
    /// # Errors
    /// [`CacheError::NoSequence`], and [`CacheError::Length`] for more than there are.
    pub fn truncate(&mut self, id: SequenceId, len: u32) -> Result<(), CacheError> {
        let had = self.get(id)?.len;
        if len > had {
            return Err(CacheError::Length {
                len: had,
                given: len,
            });
        }
        let sequence = &mut self.sequences[id.slot as usize];
        if len < had {
            sequence.gaps.retain(|gap| gap.at < len);
        }
        sequence.len = len;
        sequence.reserved = 0;
        self.drop_unused(id.slot);
        Ok(())
    }

    /// Drops what lies between the first `sinks` tokens and the last `window` tokens (Xiao et al. 2023,
    /// StreamingLLM), in whole pages: what is kept is at least that. The kept tokens close up in the cache,
    /// keep their positions, and the next token's position goes on counting. Returns the tokens dropped.
    ///
    /// Attention then sees exactly the kept tokens under a causal or tree mask. A sliding window and
    /// ALiBi count kept tokens, and so see the sinks nearer than they are.
    ///
    /// # Errors
    /// [`CacheError::NoSequence`].
    pub fn evict(&mut self, id: SequenceId, sinks: u32, window: u32) -> Result<u32, CacheError> {
        let sequence = self.get(id)?;
        let first = u64::from(sinks).div_ceil(u64::from(self.page_tokens)) as usize;
        let end = (sequence.len.saturating_sub(window) / self.page_tokens) as usize;
        if end <= first {
            return Ok(0);
        }
        let dropped = (end - first) as u32 * self.page_tokens;
        let sequence = &mut self.sequences[id.slot as usize];
        let pages: Vec<u32> = sequence.pages.drain(first..end).collect();
        sequence.len -= dropped;
        // A gap at the first or last token that is dropped, or between them, becomes part of this one.
        let at = first as u32 * self.page_tokens;
        let (mut joined, mut after) = (dropped, Vec::new());
        while let Some(gap) = sequence.gaps.pop_if(|gap| gap.at >= at) {
            if gap.at > at + dropped {
                let at = gap.at - dropped;
                after.push(Gap { at, ..gap });
            } else {
                joined = joined.saturating_add(gap.dropped);
            }
        }
        let dropped_here = Gap {
            at,
            dropped: joined,
        };
        sequence.gaps.push(dropped_here);
        sequence.gaps.extend(after.into_iter().rev());
        for page in pages {
            self.release(page);
        }
        Ok(dropped)
    }

    /// Ends a sequence and gives back its pages.
    ///
    /// # Errors
    /// [`CacheError::NoSequence`].
    pub fn free(&mut self, id: SequenceId) -> Result<(), CacheError> {
        self.get(id)?;
        let sequence = &mut self.sequences[id.slot as usize];
        sequence.live = false;
        sequence.len = 0;
        sequence.reserved = 0;
        for page in std::mem::take(&mut sequence.pages) {
            self.release(page);
        }
        Ok(())
    }

    fn get(&self, id: SequenceId) -> Result<&Sequence, CacheError> {
        self.sequences
            .get(id.slot as usize)
            .filter(|sequence| sequence.live && sequence.generation == id.generation)
            .ok_or(CacheError::NoSequence {
                slot: id.slot,
                generation: id.generation,
            })
    }

    /// Gives back the pages past a sequence's tokens.
    fn drop_unused(&mut self, slot: u32) {
        let sequence = &mut self.sequences[slot as usize];
        let used = (sequence.len + sequence.reserved).div_ceil(self.page_tokens) as usize;
        let unused = sequence.pages.split_off(used.min(sequence.pages.len()));
        for page in unused {
            self.release(page);
        }
    }

    fn release(&mut self, page: u32) {
        let holders = &mut self.holders[page as usize];
        *holders -= 1;
        if *holders == 0 {
            self.free.push(page);
        }
    }
}

/// The exchanges of pages `(to, from)` in the commit of `path` after `past` tokens: the twin of
/// `shaders/cache/remap.wgsl`. A page is taken over where all of its tokens come from one other page, in
/// the same places, that lies past all that is kept. Of a `path` or sizes that no commit has it says nothing.
pub fn moved_pages(path: &[u32], past: u32, page_tokens: u32) -> Vec<(u32, u32)> {
    let Some(accepted) = path.len().checked_sub(1) else {
        return Vec::new();
    };
    let mut exchanges = Vec::new();
    if page_tokens == 0 {
        return exchanges;
    }
    let Some(border) = past.checked_next_multiple_of(page_tokens) else {
        return exchanges;
    };
    let mut i = (border - past) as usize;
    while i + page_tokens as usize <= path.len() {
        let (first, last) = (path[i], path[i + page_tokens as usize - 1]);
        if i > 0
            && first as usize > accepted
            && last.wrapping_sub(first) == page_tokens - 1
            && let Some(from) = past.checked_add(first)
            && from.is_multiple_of(page_tokens)
        {
            exchanges.push((
                past.wrapping_add(i as u32) / page_tokens,
                from / page_tokens,
            ));
        }
        i += page_tokens as usize;
    }
    exchanges
}
