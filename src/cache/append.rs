//! Rotary position embedding (Su et al., 2021), fused with the write of keys and values to the cache.

use wgpu::ComputePass;

use super::{CacheError, KvCache};
use crate::{
    gpu::{Binding, BufferView, Gpu, Kernel, Source, check_limit, shader, shared_struct},
    ops::{Dispatch, Element, QUANT_BLOCK},
};

const BINDINGS: [Binding; 7] = [
    Binding::Uniform, // params
    Binding::Read,    // sequences
    Binding::Read,    // depth
    Binding::Read,    // turns
    Binding::Write,   // x
    Binding::Write,   // key
    Binding::Write,   // value
];

/// Invocations of a row of floats, and of a head that is quantised.
const ROW_LANES: u32 = 32;
const HEAD_LANES: u32 = 32;

shared_struct! {
    /// Parameters shared with `shaders/cache/append_params.wgsl`.
    pub(crate) struct AppendParams {
        query_heads: u32,
        kv_heads: u32,
        head_dim: u32,
        value_dim: u32,
        rotated_pairs: u32,
        key_start: u32,
        value_start: u32,
        x_stride: u32,
        row_stride: u32,
        depth_stride: u32,
        positions: u32,
        slots: u32,
        capacity: u32,
        page_shift: u32,
        table_stride: u32,
        key_row: u32,
        value_row: u32,
    }
}

/// Which elements of a head rotate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RopePairs {
    /// Elements `2i` and `2i + 1`, as in GGUF files of Llama models.
    Interleaved,
    /// Elements `i` and `i + rotated / 2` (GPT-NeoX), as in Qwen models.
    Halves,
}

impl RopePairs {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Interleaved, Self::Halves];

    fn name(self) -> &'static str {
        match self {
            Self::Interleaved => "interleaved",
            Self::Halves => "halves",
        }
    }

    fn source(self) -> Source {
        match self {
            Self::Interleaved => shader!("cache/rotate_interleaved.wgsl"),
            Self::Halves => shader!("cache/rotate_halves.wgsl"),
        }
    }
}

/// A variant of the append.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variant {
    pub key: Element,
    pub value: Element,
    pub hadamard: u32,
    pub pairs: RopePairs,
    pub paged: bool,
}

impl Variant {
    /// Whether a head goes through workgroup memory.
    fn in_blocks(&self) -> bool {
        self.key.is_quantised() || self.value.is_quantised() || self.hadamard > 1
    }

    /// Bytes that the kernel stores at a time of keys and of values.
    fn units(&self) -> [u64; 2] {
        [self.key, self.value].map(|element| match self.in_blocks() {
            true => 4,
            false => element.bits() / 4,
        })
    }
}

fn key_pair(element: Element) -> Source {
    match element {
        Element::F16 => shader!("cache/key_pair_f16.wgsl"),
        Element::Bf16 => shader!("cache/key_pair_bf16.wgsl"),
        _ => shader!("cache/key_pair_f32.wgsl"),
    }
}

fn value_pair(element: Element) -> Source {
    match element {
        Element::F16 => shader!("cache/value_pair_f16.wgsl"),
        Element::Bf16 => shader!("cache/value_pair_bf16.wgsl"),
        _ => shader!("cache/value_pair_f32.wgsl"),
    }
}

/// The number by which `append_blocks.wgsl` knows an element type.
fn number(element: Element) -> u32 {
    match element {
        Element::F32 => 0,
        Element::F16 => 1,
        Element::Bf16 => 2,
        Element::Q8 => 3,
        Element::Q4 => 4,
    }
}

pub(super) fn kernel(variant: &Variant) -> Kernel {
    let mut bindings = BINDINGS.to_vec();
    if variant.paged {
        bindings.push(Binding::Read);
    }
    let (family, tag, lanes) = match variant.in_blocks() {
        true => (
            "append_blocks",
            format!("/h{}", variant.hadamard),
            HEAD_LANES,
        ),
        false => ("append", String::new(), ROW_LANES),
    };
    let name = format!(
        "cache/{family}/{}-{}{tag}/{}{}",
        variant.key.name(),
        variant.value.name(),
        variant.pairs.name(),
        if variant.paged { "/paged" } else { "" },
    );
    let mut kernel = Kernel::new(name, [lanes, 1, 1], AppendParams::LAYOUT, &bindings)
        .source(shader!("cache/sequences.wgsl"))
        .source(shader!("cache/append_params.wgsl"))
        .source(variant.pairs.source());
    kernel = slots(kernel, variant.paged, BINDINGS.len() as u32);
    if !variant.in_blocks() {
        return kernel
            .source(shader!("cache/append.wgsl"))
            .source(key_pair(variant.key))
            .source(value_pair(variant.value));
    }
    for element in Element::ALL {
        kernel = kernel.constant(&element.name().to_uppercase(), number(element));
    }
    kernel
        .constant("KEY_ELEMENT", number(variant.key))
        .constant("VALUE_ELEMENT", number(variant.value))
        .constant("QUANT_BLOCK", QUANT_BLOCK)
        .constant("HADAMARD", variant.hadamard)
        .source(shader!("cache/append_blocks.wgsl"))
        .workgroup_bytes(256 * 4)
}

/// Adds the files that find slots, the page table at `binding` among them.
pub(super) fn slots(kernel: Kernel, paged: bool, binding: u32) -> Kernel {
    match paged {
        true => kernel
            .constant("TABLE_BINDING", binding)
            .source(shader!("cache/page_table.wgsl"))
            .source(shader!("cache/slots_paged.wgsl")),
        false => kernel.source(shader!("cache/slots_contiguous.wgsl")),
    }
}

/// The rotation of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RopeShape {
    /// Leading elements of a head that are rotated, even.
    pub rotated: u32,
    /// Which of them rotate together.
    pub pairs: RopePairs,
}

impl RopeShape {
    /// As [`Self::table`], with the frequency of pair `i` divided by `divisors[i]` (Llama 3.1's
    /// `rope_freqs`); pairs past the end of the list are not.
    pub fn table_divided(
        &self,
        positions: u32,
        base: f64,
        scale: f64,
        divisors: &[f32],
    ) -> Vec<[f32; 2]> {
        let given = |pair: u32| divisors.get(pair as usize).copied().map_or(1.0, f64::from);
        let divisors: Vec<f64> = (0..self.rotated / 2)
            .map(|pair| scale * given(pair))
            .collect();
        self.table_scaled(positions, base, &divisors, 1.0)
    }

    /// As [`Self::table`], with the frequency of pair `i` divided by `divisors[i]`, and sine and cosine multiplied by
    /// `magnitude` (YaRN, LongRoPE); pairs past the end of the list are not divided.
    pub fn table_scaled(
        &self,
        positions: u32,
        base: f64,
        divisors: &[f64],
        magnitude: f64,
    ) -> Vec<[f32; 2]> {
        let frequency = |i: u32| {
            let divisor = divisors.get(i as usize).copied().unwrap_or(1.0);
            base.powf(-2.0 * f64::from(i) / f64::from(self.rotated)) / divisor
        };
        let frequencies: Vec<f64> = (0..self.rotated / 2).map(frequency).collect();
        let turn = |angle: f64| {
            [
                (angle.cos() * magnitude) as f32,
                (angle.sin() * magnitude) as f32,
            ]
        };
        (0..positions)
            .flat_map(|position| {
                let angles = frequencies.iter().map(move |f| f64::from(position) * f);
                angles.map(turn)
            })
            .collect()
    }

    /// The table of `(cos, sin)` for `positions` positions, `[position, rotated / 2]`, computed
    /// in f64: `angle = position / scale / base^(2i / rotated)`.
    pub fn table(&self, positions: u32, base: f64, scale: f64) -> Vec<[f32; 2]> {
        self.table_divided(positions, base, scale, &[])
    }
}

/// Rows of a step, as the append sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendShape {
    /// Query heads.
    pub query_heads: u32,
    /// The rotation.
    pub rope: RopeShape,
    /// Rows from one sequence's first to the next sequence's; 0 in a ragged batch, where each sequence
    /// says how many rows come before its own.
    pub row_stride: u32,
    /// Depths from one sequence's first to the next sequence's.
    pub depth_stride: u32,
    /// Most rows of one sequence.
    pub max_rows: u32,
}

/// The buffers of an append.
#[derive(Clone, Copy, Debug)]
pub struct AppendIo<'a> {
    /// `[sequence]` of four u32s: rows, committed tokens, rows before the sequence's first one (a ragged
    /// batch), and, with a paged cache, tokens evicted. The lengths of an attention call are the same.
    pub sequences: BufferView<'a>,
    /// Depth of each row below the last committed token, `[sequence, depth_stride]` of u32: 0, 1, ... for a
    /// prompt or a chain, the node's depth in a draft tree.
    pub depth: BufferView<'a>,
    /// [`RopeShape::table`], `[position, rotated / 2]` of (f32, f32).
    pub table: BufferView<'a>,
    /// `[row, (query_heads + kv_heads) * head_dim + kv_heads * value_dim]`, f32: queries, keys, values. The
    /// queries are rotated in place (also by the Hadamard transform, where keys are): attention reads
    /// them here.
    pub x: BufferView<'a>,
}

/// The append to one part of a layer; the first also rotates the queries.
#[derive(Clone, Debug)]
struct AppendPart {
    dispatch: Dispatch,
    heads: Option<u32>, // workgroups of a row, where there is one a head
}

/// Rotation of queries and keys with the append to one layer of a cache, bound to its buffers.
///
/// Row `r` of a sequence gets position `past + depth[r]`, or the last of the rotation table where that is longer, and
/// the slot of token `past + r`. Rows that have no slot (past the capacity, or in a page that was not reserved) are not
/// written, and rows past the end of `x` are left alone.
#[derive(Clone, Debug)]
pub struct Append {
    parts: Vec<AppendPart>,
    max_rows: u32,
    sequences: u32,
}

impl Append {
    /// Compiles and binds for layer `layer` of `cache`.
    ///
    /// # Errors
    /// [`CacheError::Mismatch`] for a layer or rotation that the cache does not have, and buffers that are
    /// too small; [`GpuError::Compile`](crate::gpu::GpuError::Compile), and the errors of a bad view.
    pub async fn new(
        gpu: &Gpu,
        cache: &KvCache,
        layer: u32,
        shape: &AppendShape,
        io: &AppendIo<'_>,
    ) -> Result<Self, CacheError> {
        let c = cache.shape();
        let mismatch = |name, given: u64, needed: String| CacheError::Mismatch {
            name,
            given,
            needed,
        };
        let parts = cache.parts(layer);
        if parts.is_empty() {
            let needed = format!("the cache has {} layers", c.layers);
            return Err(mismatch("layer", layer.into(), needed));
        }
        let rotated = shape.rope.rotated;
        if !rotated.is_multiple_of(2) || rotated > c.head_dim {
            let needed = format!("it must be even and at most the head size {}", c.head_dim);
            return Err(mismatch("rotated", rotated.into(), needed));
        }
        let width = (u64::from(shape.query_heads) + u64::from(c.kv_heads)) * u64::from(c.head_dim)
            + u64::from(c.kv_heads) * u64::from(c.value_dim);
        let sequences = u64::from(cache.sequences());
        let rows = match shape.row_stride {
            0 => u64::from(shape.max_rows),
            stride => (sequences - 1) * u64::from(stride) + u64::from(shape.max_rows),
        };
        let depths = (sequences - 1) * u64::from(shape.depth_stride) + u64::from(shape.max_rows);
        for (name, view, needed) in [
            ("sequences", io.sequences, sequences * 16),
            ("depth", io.depth, depths * 4),
            ("x", io.x, rows.saturating_mul(width * 4)),
        ] {
            if view.size < needed {
                let needed = format!("the shape needs {needed} bytes");
                return Err(mismatch(name, view.size, needed));
            }
        }
        let row_bytes = u64::from((rotated / 2).max(1)) * 8;
        let positions = u32::try_from(io.table.size / row_bytes).unwrap_or(u32::MAX);
        if positions == 0 {
            let needed = format!("one position takes {row_bytes} bytes");
            return Err(mismatch("table", io.table.size, needed));
        }
        let variant = Variant {
            key: c.key,
            value: c.value,
            hadamard: c.hadamard(),
            pairs: shape.rope.pairs,
            paged: cache.pool().is_some(),
        };
        let pipeline = gpu.pipeline(&kernel(&variant)).await?;
        let [key_unit, value_unit] = variant.units();
        let places = cache.places(key_unit);
        let value_row = cache.places(value_unit).value_row;
        let first_key = shape.query_heads * c.head_dim;
        let first_value = first_key + c.kv_heads * c.head_dim;
        let mut bound = Vec::new();
        for part in parts {
            let kv_heads = part.heads.end - part.heads.start;
            let query_heads = if bound.is_empty() {
                shape.query_heads
            } else {
                0
            };
            let params = AppendParams {
                query_heads,
                kv_heads,
                head_dim: c.head_dim,
                value_dim: c.value_dim,
                rotated_pairs: rotated / 2,
                key_start: first_key + part.heads.start * c.head_dim,
                value_start: first_value + part.heads.start * c.value_dim,
                x_stride: width as u32,
                row_stride: shape.row_stride,
                depth_stride: shape.depth_stride,
                positions,
                slots: places.slots,
                capacity: places.capacity,
                page_shift: places.page_shift,
                table_stride: places.table_stride,
                key_row: places.key_row,
                value_row,
            };
            let uniform = gpu.uniform(&pipeline.name, &params);
            let mut views = vec![
                ("params", BufferView::whole(&uniform)),
                ("sequences", io.sequences),
                ("depth", io.depth),
                ("table", io.table),
                ("x", io.x),
                ("key", part.keys),
                ("value", part.values),
            ];
            views.extend(cache.page_table().map(|table| ("page table", table)));
            let arguments = gpu.bind(&pipeline, &views)?;
            let heads = variant.in_blocks().then_some(query_heads + 2 * kv_heads);
            for (what, groups) in [
                ("the rows of an append", shape.max_rows),
                ("the sequences of a cache", cache.sequences()),
                ("the heads of an append", heads.unwrap_or(1)),
            ] {
                let limits = &gpu.capabilities().limits;
                check_limit(limits, what, crate::gpu::Limit::Workgroups, groups.into())?;
            }
            bound.push(AppendPart {
                dispatch: Dispatch::new(pipeline.clone(), arguments),
                heads,
            });
        }
        Ok(Self {
            parts: bound,
            max_rows: shape.max_rows,
            sequences: cache.sequences(),
        })
    }

    /// Records the rotation and append of at most `rows` rows of each sequence.
    pub fn encode(&self, pass: &mut ComputePass<'_>, rows: u32) {
        let rows = rows.min(self.max_rows);
        for part in &self.parts {
            match part.heads {
                Some(heads) => part.dispatch.encode(pass, [heads, rows, self.sequences]),
                None => part.dispatch.encode(pass, [rows, self.sequences, 1]),
            }
        }
    }
}
