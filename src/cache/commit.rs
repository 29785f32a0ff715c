//! Keeping the accepted part of a draft, on the GPU.

use wgpu::{Buffer, ComputePass};

use super::{CacheError, KvCache, append::slots, kv_cache::CacheBuffers};
use crate::{
    gpu::{Binding, BufferView, Gpu, Kernel, Source, shader, shared_struct},
    ops::Dispatch,
};

const BINDINGS: [Binding; 5] = [
    Binding::Uniform, // params
    Binding::Read,    // sequences
    Binding::Read,    // outcome
    Binding::Write,   // keys
    Binding::Write,   // values
];

const REMAP: [Binding; 4] = [
    Binding::Uniform, // params
    Binding::Read,    // sequences
    Binding::Read,    // outcome
    Binding::Write,   // page table
];

shared_struct! {
    /// Parameters shared with `shaders/cache/commit.wgsl`.
    pub(crate) struct CommitParams {
        key_lanes: u32,
        value_lanes: u32,
        kv_heads: u32,
        key_row: u32,
        value_row: u32,
        key_layer: u32,
        value_layer: u32,
        outcome_stride: u32,
        max_nodes: u32,
        slots: u32,
        capacity: u32,
        page_shift: u32,
        table_stride: u32,
    }
}

shared_struct! {
    /// Parameters shared with `shaders/cache/remap.wgsl`.
    pub(crate) struct RemapParams {
        outcome_stride: u32,
        max_nodes: u32,
        page_shift: u32,
        table_stride: u32,
    }
}

const LANES: u32 = 64;

/// The file that says how many words an invocation moves.
pub(super) fn unit(words: u32) -> Source {
    match words {
        4 => shader!("cache/unit4.wgsl"),
        2 => shader!("cache/unit2.wgsl"),
        _ => shader!("cache/unit1.wgsl"),
    }
}

/// Words that an invocation can move at a time: rows are a multiple of it.
pub(super) fn unit_words(cache: &KvCache) -> u32 {
    let shape = cache.shape();
    let fits = |bytes: u64| {
        shape.key_row_bytes().is_multiple_of(bytes) && shape.value_row_bytes().is_multiple_of(bytes)
    };
    [4, 2]
        .into_iter()
        .find(|words| fits(u64::from(*words) * 4))
        .unwrap_or(1)
}

pub(super) fn kernel(words: u32, paged: bool) -> Kernel {
    let mut bindings = BINDINGS.to_vec();
    if paged {
        bindings.push(Binding::Read);
    }
    let name = format!("cache/commit/w{words}{}", if paged { "/paged" } else { "" });
    let kernel = Kernel::new(name, [LANES, 1, 1], CommitParams::LAYOUT, &bindings)
        .source(shader!("cache/sequences.wgsl"))
        .source(unit(words));
    let kernel = slots(kernel, paged, BINDINGS.len() as u32);
    let kernel = match paged {
        true => kernel.source(shader!("cache/moves_whole.wgsl")),
        false => kernel,
    };
    kernel.source(shader!("cache/commit.wgsl"))
}

pub(super) fn remap_kernel() -> Kernel {
    Kernel::new("cache/remap", [1, 1, 1], RemapParams::LAYOUT, &REMAP)
        .source(shader!("cache/sequences.wgsl"))
        .source(shader!("cache/moves_whole.wgsl"))
        .source(shader!("cache/remap.wgsl"))
}

/// Moves the keys and values of accepted nodes to where committed ones belong, in all layers, for all
/// sequences: one dispatch for each buffer of keys that the cache has, which is one where all layers fit a binding
/// (a dispatch can bind no more than eight storage buffers, whatever the cache). In a paged cache, pages whose tokens all stay together are exchanged in the page table instead;
/// [`Pager::commit`](super::Pager::commit) does the same on the host. A draft that is a chain needs no commit
/// on the GPU: its accepted nodes already lie there.
#[derive(Clone, Debug)]
pub struct Commit {
    moves: Vec<(Dispatch, [u32; 3])>,
    remap: Option<(Dispatch, u32)>,
}

impl Commit {
    /// Compiles and binds. `sequences` is that of the [`AppendIo`](super::AppendIo) of the step; `outcome` is the
    /// verification's output, `[sequence, outcome_stride]` words: accepted nodes below the root, flags, then
    /// the path, the root first, of at most `max_nodes` nodes.
    ///
    /// # Errors
    /// [`CacheError::Mismatch`] for buffers that are too small, [`CacheError::Zero`] for no nodes, and
    /// [`CacheError::Gpu`].
    pub async fn new(
        gpu: &Gpu,
        cache: &KvCache,
        sequences: BufferView<'_>,
        outcome: &Buffer,
        outcome_stride: u32,
        max_nodes: u32,
    ) -> Result<Self, CacheError> {
        if max_nodes == 0 {
            return Err(CacheError::Zero { name: "max_nodes" });
        }
        let count = u64::from(cache.sequences());
        let outcome_words = (count - 1) * u64::from(outcome_stride) + 2 + u64::from(max_nodes);
        for (name, given, needed) in [
            ("sequences", sequences.size, count * 16),
            ("outcome", outcome.size(), outcome_words * 4),
        ] {
            if given < needed {
                return Err(CacheError::Mismatch {
                    name,
                    given,
                    needed: format!("{count} sequences need {needed} bytes"),
                });
            }
        }
        let words = unit_words(cache);
        let table = cache.page_table();
        let pipeline = gpu.pipeline(&kernel(words, table.is_some())).await?;
        let places = cache.places(u64::from(words) * 4);
        let limit = gpu
            .capabilities()
            .limits
            .max_compute_workgroups_per_dimension;
        let outcome_view = BufferView::whole(outcome);
        let mut moves = Vec::new();
        for CacheBuffers {
            keys,
            values,
            layers,
            heads,
        } in cache.buffers()
        {
            let params = CommitParams {
                key_lanes: layers * heads * places.key_row,
                value_lanes: layers * heads * places.value_row,
                kv_heads: heads,
                key_row: places.key_row,
                value_row: places.value_row,
                key_layer: places.key_layer,
                value_layer: places.value_layer,
                outcome_stride,
                max_nodes,
                slots: places.slots,
                capacity: places.capacity,
                page_shift: places.page_shift,
                table_stride: places.table_stride,
            };
            let uniform = gpu.uniform(&pipeline.name, &params);
            let mut views = vec![
                ("params", BufferView::whole(&uniform)),
                ("sequences", sequences),
                ("outcome", outcome_view),
                ("keys", BufferView::whole(keys)),
                ("values", BufferView::whole(values)),
            ];
            views.extend(table.map(|table| ("page table", table)));
            let arguments = gpu.bind(&pipeline, &views)?;
            let lanes = params.key_lanes + params.value_lanes;
            let [x, y] = crate::ops::spread(lanes.div_ceil(LANES), limit);
            let groups = [x, y, cache.sequences()];
            moves.push((Dispatch::new(pipeline.clone(), arguments), groups));
        }
        let remap = match table {
            None => None,
            Some(table) => {
                let pipeline = gpu.pipeline(&remap_kernel()).await?;
                let params = RemapParams {
                    outcome_stride,
                    max_nodes,
                    page_shift: places.page_shift,
                    table_stride: places.table_stride,
                };
                let uniform = gpu.uniform(&pipeline.name, &params);
                let views = [
                    ("params", BufferView::whole(&uniform)),
                    ("sequences", sequences),
                    ("outcome", outcome_view),
                    ("page table", table),
                ];
                let arguments = gpu.bind(&pipeline, &views)?;
                Some((Dispatch::new(pipeline, arguments), cache.sequences()))
            }
        };
        Ok(Self { moves, remap })
    }

    /// Records the commit; it must come after the verification and before what moves the lengths on.
    pub fn encode(&self, pass: &mut ComputePass<'_>) {
        for (dispatch, groups) in &self.moves {
            dispatch.encode(pass, *groups);
        }
        if let Some((dispatch, sequences)) = &self.remap {
            dispatch.encode(pass, [*sequences, 1, 1]);
        }
    }
}
