//! Linear layers `y = x W^T` with weights kept quantised, with what follows fused into the store.

use std::sync::Arc;

use wgpu::ComputePass;

use super::{
    Dispatch, Matrix, StepBuffer, WeightType, dispatch::spread, matrix::Part, matrix::TILE_ROWS,
};
use crate::gpu::{
    AdapterClass, Binding, BufferView, Capabilities, Gpu, GpuError, Kernel, Pipeline, Source,
    shader, shared_struct,
};

/// What happens to the sums of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Epilogue {
    /// `y = sum`.
    Assign,
    /// `y = y + sum`: a residual connection.
    Add,
    /// `y = SiLU(gate) * up`, where the matrix holds 16 gate rows and the 16 up rows of the same
    /// indices in turn. `y` has half as many columns as the matrix has rows.
    SwiGlu,
}

impl Epilogue {
    /// All epilogues.
    pub const ALL: [Self; 3] = [Self::Assign, Self::Add, Self::SwiGlu];

    fn name(self) -> &'static str {
        match self {
            Self::Assign => "assign",
            Self::Add => "add",
            Self::SwiGlu => "swiglu",
        }
    }

    fn source(self) -> Source {
        match self {
            Self::Assign => shader!("ops/store_assign.wgsl"),
            Self::Add => shader!("ops/store_add.wgsl"),
            Self::SwiGlu => shader!("ops/store_swiglu.wgsl"),
        }
    }
}

/// The file that defines how a block of weights is read.
pub(super) fn weights_source(weight_type: WeightType) -> Source {
    match weight_type {
        WeightType::F32 => shader!("ops/weights_f32.wgsl"),
        WeightType::F16 => shader!("ops/weights_f16.wgsl"),
        WeightType::Bf16 => shader!("ops/weights_bf16.wgsl"),
        WeightType::Q8_0 => shader!("ops/weights_q8_0.wgsl"),
        WeightType::Q4_0 => shader!("ops/weights_q4_0.wgsl"),
        WeightType::Q4_1 => shader!("ops/weights_q4_1.wgsl"),
        WeightType::Q5_0 => shader!("ops/weights_q5_0.wgsl"),
        WeightType::Q5_1 => shader!("ops/weights_q5_1.wgsl"),
        WeightType::Q4K => shader!("ops/weights_q4_k.wgsl"),
        WeightType::Q5K => shader!("ops/weights_q5_k.wgsl"),
        WeightType::Q6K => shader!("ops/weights_q6_k.wgsl"),
    }
}

const PLAIN: &[Binding] = &[
    Binding::Uniform,
    Binding::Read,
    Binding::Read,
    Binding::Read,
    Binding::Write,
];
const SCALED: &[Binding] = &[
    Binding::Uniform,
    Binding::Read,
    Binding::Read,
    Binding::Read,
    Binding::Write,
    Binding::Read,
];

shared_struct! {
    /// Parameters shared with `shaders/ops/linear.wgsl`.
    pub(crate) struct LinearParams {
        blocks: u32,
        rows: u32,
        x_stride: u32,
        y_stride: u32,
        y_offset: u32,
        tiles: u32,
    }
}

/// Quantised weights have scales in a buffer of their own.
pub(super) fn bindings(weight_type: WeightType) -> &'static [Binding] {
    match weight_type {
        WeightType::F32 | WeightType::F16 | WeightType::Bf16 => PLAIN,
        _ => SCALED,
    }
}

/// Tokens that one workgroup may compute, smallest first.
pub(crate) const TOKEN_TILES: [u32; 5] = [1, 2, 4, 8, 16];

/// Those of [`TOKEN_TILES`] that are worth compiling.
fn token_tiles(capabilities: &Capabilities) -> &'static [u32] {
    match Tile::of(capabilities).unrolled {
        // Written out, larger ones compile for seconds and gain nothing.
        true => &TOKEN_TILES[..3],
        false => &TOKEN_TILES,
    }
}

/// How the invocations of a workgroup share a tile of 32 rows.
struct Tile {
    lanes: u32,
    slices: u32,
    activations: Source,
    spread: u32,
    unrolled: bool,
}

impl Tile {
    fn of(capabilities: &Capabilities) -> Self {
        match (capabilities.class, capabilities.spread_width()) {
            // One subgroup a workgroup: no barrier, loads shared by broadcast.
            (AdapterClass::Software, Some(8)) => Self {
                lanes: 8,
                slices: 1,
                activations: shader!("ops/x_spread8.wgsl"),
                spread: 8,
                unrolled: false,
            },
            // SwiftShader keeps an array in memory, a lane at a time, as soon as a loop indexes it: written out,
            // this kernel runs eight times as fast there.
            (AdapterClass::Software, Some(_)) => Self {
                lanes: 4,
                slices: 1,
                activations: shader!("ops/x_spread4.wgsl"),
                spread: 4,
                unrolled: true,
            },
            (AdapterClass::Software, None) => Self {
                lanes: 8,
                slices: 1,
                activations: shader!("ops/x_direct.wgsl"),
                spread: 0,
                unrolled: false,
            },
            // 16 lanes read 256 contiguous bytes; eight slices keep enough loads in flight.
            _ => Self {
                lanes: 16,
                slices: 8,
                activations: shader!("ops/x_direct.wgsl"),
                spread: 0,
                unrolled: false,
            },
        }
    }
}

/// The kernel for `tokens` tokens a workgroup.
pub(crate) fn kernel(
    capabilities: &Capabilities,
    weight_type: WeightType,
    epilogue: Epilogue,
    tokens: u32,
) -> Kernel {
    let tile = Tile::of(capabilities);
    let (sum, shared) = match tile.slices {
        1 => (shader!("ops/sum_registers.wgsl"), 0),
        slices => (
            shader!("ops/sum_slices.wgsl"),
            u64::from(tokens * slices) * TILE_ROWS as u64 * 4,
        ),
    };
    let name = format!(
        "ops/linear_few/{}/{}/t{tokens}l{}s{}x{}",
        weight_type.name(),
        epilogue.name(),
        tile.lanes,
        tile.slices,
        tile.spread,
    );
    let kernel = Kernel::new(
        name,
        [tile.lanes, tile.slices, 1],
        LinearParams::LAYOUT,
        bindings(weight_type),
    )
    .constant("TOKENS", tokens)
    .constant("LANES", tile.lanes)
    .constant("SLICES", tile.slices)
    .source(shader!("ops/linear.wgsl"))
    .source(shader!("ops/linear_few.wgsl"))
    .source(weights_source(weight_type))
    .source(tile.activations)
    .source(sum)
    .source(epilogue.source())
    .workgroup_bytes(shared);
    let kernel = match tile.unrolled {
        true => kernel.unrolled(),
        false => kernel,
    };
    match tile.spread {
        0 => kernel,
        _ => kernel.uses_subgroups(),
    }
}

/// Tokens that one workgroup of the kernel for many tokens computes, and the row tiles.
const MANY: (u32, u32) = (32, 2);

/// The kernel for more tokens than the largest of [`TOKEN_TILES`]; `None` where the one for few
/// is as fast: on software adapters workgroup memory saves nothing.
pub(crate) fn many_kernel(
    capabilities: &Capabilities,
    weight_type: WeightType,
    epilogue: Epilogue,
) -> Option<Kernel> {
    const LANES: u32 = 16;
    const GROUPS: u32 = 8;
    if capabilities.class == AdapterClass::Software {
        return None;
    }
    let (tokens, tiles) = MANY;
    let name = format!("ops/linear_many/{}/{}", weight_type.name(), epilogue.name());
    let params = LinearParams::LAYOUT;
    let staged = (u64::from(tiles) * TILE_ROWS as u64 + u64::from(tokens)) * 8 * 16;
    let kernel = Kernel::new(name, [LANES, GROUPS, 1], params, bindings(weight_type))
        .constant("TOKENS", tokens)
        .constant("LANES", LANES)
        .constant("GROUPS", GROUPS)
        .source(shader!("ops/linear.wgsl"))
        .source(shader!("ops/linear_many.wgsl"))
        .source(weights_source(weight_type))
        .source(epilogue.source())
        .workgroup_bytes(staged);
    Some(kernel)
}

/// The buffers of a linear layer.
#[derive(Clone, Copy, Debug)]
pub struct LinearIo<'a> {
    /// `[token, columns]`, f32.
    pub x: BufferView<'a>,
    /// f32s from one token's activations to the next, a multiple of 4 and at least the columns
    /// rounded up to a multiple of 32.
    pub x_stride: u32,
    /// `[token, rows]`, f32.
    pub y: BufferView<'a>,
    /// f32s from one token's results to the next.
    pub y_stride: u32,
    /// f32s before the first result of a token.
    pub y_offset: u32,
}

/// A linear layer bound to its buffers.
#[derive(Clone, Debug)]
pub struct Linear {
    variants: Vec<(u32, Vec<Dispatch>)>, // tokens a workgroup, one dispatch a part
    many: Option<Vec<Dispatch>>,
    tiles: Vec<u32>,
    max_groups: u32,
    wanted_groups: u32,
}

/// Workgroups below which tokens are shared out further on a GPU: two for each multiprocessor of a large one. Weights are
/// then read again, from a cache. On an H100, a step of 16 tokens of SmolLM2-135M, whose layers have 18 tiles of rows, took
/// 7.1 ms with 16 tokens a workgroup and a step of one token 3.0 ms.
const WANTED_GROUPS: u32 = 256;

impl Linear {
    /// Compiles the kernels for `matrix` and binds them.
    ///
    /// # Errors
    /// [`GpuError::Compile`], and the errors of a bad view.
    pub async fn new(
        gpu: &Gpu,
        matrix: &Matrix,
        epilogue: Epilogue,
        step: &StepBuffer,
        io: &LinearIo<'_>,
    ) -> Result<Self, GpuError> {
        Self::with_tiles(
            gpu,
            matrix,
            epilogue,
            step,
            io,
            token_tiles(gpu.capabilities()),
        )
        .await
    }

    /// As [`new`](Self::new), for one token: a step's last.
    pub(crate) async fn of_one(
        gpu: &Gpu,
        matrix: &Matrix,
        epilogue: Epilogue,
        step: &StepBuffer,
        io: &LinearIo<'_>,
    ) -> Result<Self, GpuError> {
        Self::with_tiles(gpu, matrix, epilogue, step, io, &TOKEN_TILES[..1]).await
    }

    async fn with_tiles(
        gpu: &Gpu,
        matrix: &Matrix,
        epilogue: Epilogue,
        step: &StepBuffer,
        io: &LinearIo<'_>,
        tiles: &[u32],
    ) -> Result<Self, GpuError> {
        let mut variants = Vec::new();
        let largest = tiles.last();
        for tokens in tiles {
            let kernel = kernel(gpu.capabilities(), matrix.weight_type, epilogue, *tokens);
            if kernel.check(gpu.capabilities()).is_err() && *tokens > 1 {
                break; // larger tiles need more still: the smaller ones serve all sizes
            }
            // A prompt comes first, and it is long.
            let pipeline = match Some(tokens) == largest {
                true => gpu.pipeline(&kernel).await?,
                false => gpu.later().pipeline(&kernel).await?,
            };
            let dispatches = matrix
                .parts
                .iter()
                .map(|part| Self::bind_part(gpu, &pipeline, matrix, part, epilogue, step, io));
            variants.push((*tokens, dispatches.collect::<Result<_, _>>()?));
        }
        let many = many_kernel(gpu.capabilities(), matrix.weight_type, epilogue);
        let many = match many.filter(|_| tiles.len() > 1) {
            Some(kernel) if kernel.check(gpu.capabilities()).is_ok() => {
                let pipeline = gpu.pipeline(&kernel).await?;
                let dispatches = matrix
                    .parts
                    .iter()
                    .map(|part| Self::bind_part(gpu, &pipeline, matrix, part, epilogue, step, io));
                Some(dispatches.collect::<Result<_, _>>()?)
            }
            _ => None,
        };
        Ok(Self {
            variants,
            many,
            tiles: matrix.parts.iter().map(|p| p.tiles).collect(),
            max_groups: gpu
                .capabilities()
                .limits
                .max_compute_workgroups_per_dimension,
            wanted_groups: match gpu.capabilities().class {
                AdapterClass::Software => 0,
                _ => WANTED_GROUPS,
            },
        })
    }

    /// The kernel for `tokens` tokens: that which reads the weights least often among those with enough workgroups.
    fn few(&self, tokens: u32) -> Option<&(u32, Vec<Dispatch>)> {
        let tiles: u32 = self.tiles.iter().sum();
        let fitting = self.variants.iter().position(|(tile, _)| *tile >= tokens);
        let most = fitting.map_or(self.variants.len(), |fitting| fitting + 1);
        let variants = self.variants.get(..most)?;
        let groups = |tile: u32| tiles.saturating_mul(tokens.div_ceil(tile));
        let busy = |(tile, _): &&(u32, Vec<Dispatch>)| groups(*tile) >= self.wanted_groups;
        variants.iter().rev().find(busy).or(variants.first())
    }

    fn bind_part(
        gpu: &Gpu,
        pipeline: &Arc<Pipeline>,
        matrix: &Matrix,
        part: &Part,
        epilogue: Epilogue,
        step: &StepBuffer,
        io: &LinearIo<'_>,
    ) -> Result<Dispatch, GpuError> {
        // Results of one row of the matrix: the SwiGLU store joins two rows into one result.
        let per_row = |rows: u32| match epilogue {
            Epilogue::SwiGlu => rows / 2,
            _ => rows,
        };
        let first = part.first_tile * TILE_ROWS as u32;
        let params = LinearParams {
            blocks: matrix.blocks(),
            rows: per_row(matrix.rows - first),
            x_stride: io.x_stride / 4,
            y_stride: io.y_stride,
            y_offset: io.y_offset + per_row(first),
            tiles: part.tiles,
        };
        let uniform = gpu.uniform(&pipeline.name, &params);
        let mut views = vec![
            ("params", BufferView::whole(&uniform)),
            ("step", step.view()),
            ("x", io.x),
            ("quants", part.quants()),
            ("y", io.y),
        ];
        views.extend(part.scales().map(|scales| ("scales", scales)));
        let arguments = gpu.bind(pipeline, &views)?;
        Ok(Dispatch::new(pipeline.clone(), arguments))
    }

    /// Records the layer for at most `tokens` tokens; the step buffer says how many there are.
    ///
    /// Calls of at most 16 tokens give a token the same bits in any company; more tokens may be
    /// summed in another order.
    pub fn encode(&self, pass: &mut ComputePass<'_>, tokens: u32) {
        let most = TOKEN_TILES.into_iter().max().unwrap_or(1);
        if let Some(many) = self.many.as_ref().filter(|_| tokens > most) {
            for (dispatch, tiles) in many.iter().zip(&self.tiles) {
                let [x, y] = spread(tiles.div_ceil(MANY.1), self.max_groups);
                dispatch.encode(pass, [x, y, tokens.div_ceil(MANY.0)]);
            }
            return;
        }
        self.encode_few(pass, tokens);
    }

    /// As [`Linear::encode`], with the same bits for a token in any company, however many.
    pub fn encode_few(&self, pass: &mut ComputePass<'_>, tokens: u32) {
        let Some((tile, dispatches)) = self.few(tokens) else {
            return;
        };
        for (dispatch, tiles) in dispatches.iter().zip(&self.tiles) {
            let [x, y] = spread(*tiles, self.max_groups);
            dispatch.encode(pass, [x, y, tokens.div_ceil(*tile)]);
        }
    }
}
