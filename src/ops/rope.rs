//! Rotary position embedding (Su et al., 2021), fused with the append to the cache.

use wgpu::ComputePass;

use super::{Dispatch, StepBuffer};
use crate::gpu::{Binding, BufferView, Gpu, GpuError, Kernel, shader, shared_struct};

const BINDINGS: &[Binding] = &[
    Binding::Uniform,
    Binding::Read,
    Binding::Read,
    Binding::Read,
    Binding::Read,
    Binding::Write,
    Binding::Write,
    Binding::Write,
];

shared_struct! {
    /// Parameters shared with `shaders/ops/rope.wgsl`.
    pub(crate) struct RopeParams {
        query_heads: u32,
        kv_heads: u32,
        head_pairs: u32,
        rotated_pairs: u32,
        x_stride: u32,
        q_stride: u32,
        capacity: u32,
        positions: u32,
    }
}

/// How the cache stores keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CacheElement {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
}

impl CacheElement {
    /// Bytes of one element.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }

    /// Name in kernel variants.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }
}

pub(crate) fn kernel(element: CacheElement) -> Kernel {
    let pair = match element {
        CacheElement::F32 => shader!("ops/pair_f32.wgsl"),
        CacheElement::F16 => shader!("ops/pair_f16.wgsl"),
    };
    Kernel::new(
        format!("ops/rope/{}", element.name()),
        [32, 1, 1],
        RopeParams::LAYOUT,
        BINDINGS,
    )
    .source(shader!("ops/rope.wgsl"))
    .source(pair)
}

/// Shape of the heads and the cache.
#[derive(Clone, Copy, Debug)]
pub struct RopeShape {
    /// Query heads.
    pub query_heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Elements of a head, even.
    pub head_dim: u32,
    /// Leading elements of a head that are rotated, even.
    pub rotated: u32,
    /// Slots of the cache.
    pub capacity: u32,
    /// Element type of the cache.
    pub element: CacheElement,
}

impl RopeShape {
    /// The table of `(cos, sin)` for `positions` positions, `[position, rotated / 2]`, computed
    /// in f64: `angle = position / scale / base^(2i / rotated)`.
    pub fn table(&self, positions: u32, base: f64, scale: f64) -> Vec<[f32; 2]> {
        let pairs = self.rotated / 2;
        let row = |position: u32| {
            (0..pairs).map(move |i| {
                let frequency = base.powf(-2.0 * f64::from(i) / f64::from(self.rotated));
                let angle = f64::from(position) / scale * frequency;
                [angle.cos() as f32, angle.sin() as f32]
            })
        };
        (0..positions).flat_map(row).collect()
    }
}

/// The buffers of a rotation.
#[derive(Clone, Copy, Debug)]
pub struct RopeIo<'a> {
    /// Depth of each row below the last committed token, `[row]` of u32.
    pub depth: BufferView<'a>,
    /// [`RopeShape::table`], `[position, rotated / 2]` of (f32, f32).
    pub table: BufferView<'a>,
    /// `[row, (query_heads + 2 kv_heads) * head_dim]`, f32: queries, keys, values.
    pub x: BufferView<'a>,
    /// `[row, query_head, head_dim]`, f32.
    pub query: BufferView<'a>,
    /// `[kv_head, capacity, head_dim]` of the cache's element type.
    pub key: BufferView<'a>,
    /// As `key`.
    pub value: BufferView<'a>,
}

/// Rotation of queries and keys with the append to the cache, bound to its buffers.
#[derive(Clone, Debug)]
pub struct Rope(Dispatch);

impl Rope {
    /// Compiles and binds.
    ///
    /// # Errors
    /// [`GpuError::Compile`], and the errors of a bad view.
    pub async fn new(
        gpu: &Gpu,
        shape: &RopeShape,
        step: &StepBuffer,
        io: &RopeIo<'_>,
    ) -> Result<Self, GpuError> {
        let pipeline = gpu.pipeline(&kernel(shape.element)).await?;
        let head_pairs = shape.head_dim / 2;
        let rotated_pairs = shape.rotated / 2;
        let row_bytes = u64::from(rotated_pairs.max(1)) * 8;
        let params = RopeParams {
            query_heads: shape.query_heads,
            kv_heads: shape.kv_heads,
            head_pairs,
            rotated_pairs,
            x_stride: (shape.query_heads + 2 * shape.kv_heads) * head_pairs,
            q_stride: shape.query_heads * head_pairs,
            capacity: shape.capacity,
            positions: u32::try_from(io.table.size / row_bytes).unwrap_or(u32::MAX),
        };
        let uniform = gpu.uniform(&pipeline.name, &params);
        let arguments = gpu.bind(
            &pipeline,
            &[
                ("params", BufferView::whole(&uniform)),
                ("step", step.view()),
                ("depth", io.depth),
                ("table", io.table),
                ("x", io.x),
                ("query", io.query),
                ("key", io.key),
                ("value", io.value),
            ],
        )?;
        Ok(Self(Dispatch::new(pipeline, arguments)))
    }

    /// Records the rotation and append of at most `rows` rows.
    pub fn encode(&self, pass: &mut ComputePass<'_>, rows: u32) {
        self.0.encode(pass, [rows, 1, 1]);
    }
}
