//! The pages of a session's sequence, where its cache has pages.

use crate::{
    cache::{CacheError, KvCache, Pager, SequenceId},
    gpu::Gpu,
};

/// The accounts of a cache that holds one sequence.
#[derive(Clone, Debug)]
pub struct Paging {
    pager: Pager,
    sequence: SequenceId,
    written: Vec<u32>, // the page table as the GPU has it
}

impl Paging {
    /// An empty sequence in `cache`; `None` where it has no pages.
    pub fn new(cache: &KvCache) -> Result<Option<Self>, CacheError> {
        if cache.pool().is_none() {
            return Ok(None);
        }
        let mut pager = cache.pager()?;
        let sequence = pager.create()?;
        Ok(Some(Self {
            pager,
            sequence,
            written: Vec::new(),
        }))
    }

    /// Room for `rows` tokens after the committed ones, in the next submission.
    pub fn reserve(&mut self, gpu: &Gpu, cache: &KvCache, rows: u32) -> Result<(), CacheError> {
        // Nothing is shared, so nothing has to be copied.
        self.pager.reserve(&[(self.sequence, rows)])?;
        let table = self.pager.table();
        if table != self.written {
            cache.write_page_table(gpu, &self.pager)?;
            self.written = table;
        }
        Ok(())
    }

    /// Follows the commit of a path on the GPU.
    pub fn commit_path(&mut self, path: &[u32]) -> Result<(), CacheError> {
        self.pager.commit_path(self.sequence, path)?;
        // The GPU exchanged the same entries; entries given back may differ, and nobody reads them.
        self.written.clear();
        Ok(())
    }

    /// Follows a step of a prompt: all of its rows are kept.
    pub fn commit(&mut self, rows: u32) -> Result<(), CacheError> {
        self.pager.commit(self.sequence, rows)
    }

    /// Pages of the sequence, of its first tokens first; [`NO_PAGE`](crate::cache::NO_PAGE) past the last one.
    pub fn pages(&self) -> Vec<u32> {
        self.pager.table()
    }

    /// Forgets the sequence, and makes room for another one of `tokens` committed tokens.
    pub fn refill(&mut self, gpu: &Gpu, cache: &KvCache, tokens: u32) -> Result<(), CacheError> {
        self.truncate(0)?;
        self.reserve(gpu, cache, tokens)?;
        self.commit(tokens)
    }

    /// Goes back to the first `len` tokens.
    pub fn truncate(&mut self, len: u32) -> Result<(), CacheError> {
        let len = len.min(self.pager.len(self.sequence)?);
        self.pager.truncate(self.sequence, len)
    }
}
