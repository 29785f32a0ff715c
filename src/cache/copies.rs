//! Copies of pages on the GPU.

use wgpu::{Buffer, ComputePass};

use super::{
    CacheError, KvCache, PageCopy, Pager,
    commit::{unit, unit_words},
    kv_cache::CacheBuffers,
};
use crate::{
    gpu::{Binding, BufferView, Gpu, Kernel, shader, shared_struct},
    ops::Dispatch,
};

const BINDINGS: [Binding; 4] = [
    Binding::Uniform, // params
    Binding::Read,    // copies
    Binding::Write,   // keys
    Binding::Write,   // values
];

shared_struct! {
    /// Parameters shared with `shaders/cache/copy_pages.wgsl`.
    pub(crate) struct CopyParams {
        key_lanes: u32,
        value_lanes: u32,
        kv_heads: u32,
        key_page: u32,
        value_page: u32,
        key_layer: u32,
        value_layer: u32,
        pages: u32,
        most: u32,
    }
}

const LANES: u32 = 64;

pub(super) fn kernel(words: u32) -> Kernel {
    Kernel::new(
        format!("cache/copy_pages/w{words}"),
        [LANES, 1, 1],
        CopyParams::LAYOUT,
        &BINDINGS,
    )
    .source(unit(words))
    .source(shader!("cache/copy_pages.wgsl"))
}

impl KvCache {
    /// Writes the page table of `pager` to the GPU, for the next submission.
    ///
    /// # Errors
    /// [`CacheError::NotPaged`], and [`CacheError::Mismatch`] for a pager of other sizes.
    pub fn write_page_table(&self, gpu: &Gpu, pager: &Pager) -> Result<(), CacheError> {
        let (Some(view), Some(pool)) = (self.page_table(), self.pool()) else {
            return Err(CacheError::NotPaged);
        };
        let table = pager.table();
        let same = [
            ("pages", pager.pages(), pool.pages),
            ("page_tokens", pager.page_tokens(), pool.page_tokens),
            ("table", table.len() as u32, (view.size / 4) as u32),
        ];
        for (name, given, needed) in same {
            if given != needed {
                return Err(CacheError::Mismatch {
                    name,
                    given: given.into(),
                    needed: format!("the cache was made for {needed}"),
                });
            }
        }
        gpu.queue()
            .write_buffer(view.buffer, view.offset, bytemuck::cast_slice(&table));
        Ok(())
    }

    /// The accounts of this cache's pages, all free.
    ///
    /// # Errors
    /// [`CacheError::NotPaged`].
    pub fn pager(&self) -> Result<Pager, CacheError> {
        let pool = self.pool().ok_or(CacheError::NotPaged)?;
        Pager::new(
            pool.pages,
            pool.page_tokens,
            self.sequences(),
            self.capacity(),
        )
    }
}

/// Copies of pages, in all layers: what [`Pager::reserve`] asks for.
#[derive(Clone, Debug)]
pub struct PageCopies {
    list: Buffer, // count, then (from, to)
    most: u32,
    dispatches: Vec<(Dispatch, [u32; 3])>,
}

impl PageCopies {
    /// Compiles and binds for `cache`, for at most one copy a sequence at a time: no sequence has more
    /// than one page that is partly filled.
    ///
    /// # Errors
    /// [`CacheError::NotPaged`] and [`CacheError::Gpu`].
    pub async fn new(gpu: &Gpu, cache: &KvCache) -> Result<Self, CacheError> {
        let pool = cache.pool().ok_or(CacheError::NotPaged)?;
        let most = cache.sequences();
        let list = gpu.storage("page copies", (1 + 2 * u64::from(most)) * 4)?;
        let words = unit_words(cache);
        let pipeline = gpu.pipeline(&kernel(words)).await?;
        let places = cache.places(u64::from(words) * 4);
        let limit = gpu
            .capabilities()
            .limits
            .max_compute_workgroups_per_dimension;
        let mut dispatches = Vec::new();
        for CacheBuffers {
            keys,
            values,
            layers,
            heads,
        } in cache.buffers()
        {
            let key_page = places.key_row * pool.page_tokens;
            let value_page = places.value_row * pool.page_tokens;
            let params = CopyParams {
                key_lanes: layers * heads * key_page,
                value_lanes: layers * heads * value_page,
                kv_heads: heads,
                key_page,
                value_page,
                key_layer: places.key_layer,
                value_layer: places.value_layer,
                pages: pool.pages,
                most,
            };
            let uniform = gpu.uniform(&pipeline.name, &params);
            let arguments = gpu.bind(
                &pipeline,
                &[
                    ("params", BufferView::whole(&uniform)),
                    ("copies", BufferView::whole(&list)),
                    ("keys", BufferView::whole(keys)),
                    ("values", BufferView::whole(values)),
                ],
            )?;
            let lanes = params.key_lanes + params.value_lanes;
            let [x, y] = crate::ops::spread(lanes.div_ceil(LANES), limit);
            dispatches.push((Dispatch::new(pipeline.clone(), arguments), [x, y, 1]));
        }
        Ok(Self {
            list,
            most,
            dispatches,
        })
    }

    /// Writes the list for the next submission and records the copies; they must come before the append
    /// for which they were reserved. At most one list goes into a submission.
    ///
    /// # Errors
    /// [`CacheError::Mismatch`] for more copies than the cache has sequences.
    pub fn encode(
        &self,
        gpu: &Gpu,
        pass: &mut ComputePass<'_>,
        copies: &[PageCopy],
    ) -> Result<(), CacheError> {
        if copies.len() > self.most as usize {
            return Err(CacheError::Mismatch {
                name: "copies",
                given: copies.len() as u64,
                needed: format!("there is room for {}, one a sequence", self.most),
            });
        }
        if copies.is_empty() {
            return Ok(());
        }
        let mut words = vec![copies.len() as u32];
        words.extend(copies.iter().flat_map(|copy| [copy.from, copy.to]));
        gpu.queue()
            .write_buffer(&self.list, 0, bytemuck::cast_slice(&words));
        for (dispatch, groups) in &self.dispatches {
            dispatch.encode(pass, *groups);
        }
        Ok(())
    }
}
