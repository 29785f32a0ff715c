//! The pages of a batch's sequences, where its cache has pages.

use crate::{
    cache::{CacheError, KvCache, Pager, SequenceId},
    gpu::Gpu,
};

/// The accounts of a cache that several sequences share.
#[derive(Clone, Debug)]
pub struct BatchPaging {
    pager: Pager,
    sequences: Vec<Option<SequenceId>>, // [place]
    written: Vec<u32>,                  // the page table as the GPU has it
}

impl BatchPaging {
    /// No sequence in `cache`; `None` where it has no pages.
    pub fn new(cache: &KvCache) -> Result<Option<Self>, CacheError> {
        if cache.pool().is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            pager: cache.pager()?,
            sequences: vec![None; cache.sequences() as usize],
            written: Vec::new(),
        }))
    }

    /// Makes room for a sequence of `tokens` committed tokens, and returns its place.
    pub fn join(&mut self, gpu: &Gpu, cache: &KvCache, tokens: u32) -> Result<u32, CacheError> {
        let id = self.pager.create()?;
        let reserved = self.pager.reserve(&[(id, tokens)]);
        let joined = reserved.and_then(|_| self.pager.commit(id, tokens));
        if let Err(error) = joined {
            self.pager.free(id)?;
            return Err(error);
        }
        if let Some(place) = self.sequences.get_mut(id.slot() as usize) {
            *place = Some(id);
        }
        self.write(gpu, cache)?;
        Ok(id.slot())
    }

    /// Ends the sequences in all places but these.
    pub fn keep(&mut self, is_there: impl Fn(usize) -> bool) -> Result<(), CacheError> {
        for (place, sequence) in self.sequences.iter_mut().enumerate() {
            if let Some(id) = sequence.take_if(|_| !is_there(place)) {
                self.pager.free(id)?;
            }
        }
        Ok(())
    }

    /// Room for so many rows after the committed tokens of the sequences in these places, in the next submission.
    pub fn reserve(
        &mut self,
        gpu: &Gpu,
        cache: &KvCache,
        rows: impl Iterator<Item = (usize, u32)>,
    ) -> Result<(), CacheError> {
        let id = |place: usize| self.sequences.get(place).copied().flatten();
        let requests: Vec<_> = rows
            .filter_map(|(place, rows)| Some((id(place)?, rows)))
            .collect();
        // Nothing is shared, so nothing has to be copied.
        self.pager.reserve(&requests)?;
        self.write(gpu, cache)
    }

    /// Commits the first `tokens` reserved tokens of the sequence in `place`.
    pub fn commit(&mut self, place: usize, tokens: u32) -> Result<(), CacheError> {
        match self.sequences.get(place).copied().flatten() {
            Some(id) => self.pager.commit(id, tokens),
            None => Ok(()),
        }
    }

    /// Pages of the sequence in `place`, of its first tokens first.
    pub fn pages(&self, place: u32) -> Vec<u32> {
        let id = self.sequences.get(place as usize).copied().flatten();
        let pages = id.and_then(|id| self.pager.pages_of(id).ok());
        pages.map(<[u32]>::to_vec).unwrap_or_default()
    }

    fn write(&mut self, gpu: &Gpu, cache: &KvCache) -> Result<(), CacheError> {
        let table = self.pager.table();
        if table != self.written {
            cache.write_page_table(gpu, &self.pager)?;
            self.written = table;
        }
        Ok(())
    }
}
