//! The k likeliest tokens of a few rows of logits, with their log-probabilities.

use std::collections::HashMap;

use wgpu::{Buffer, ComputePass};

use super::TreeBuildError;
use super::build_error::{check_size, check_view};
use crate::gpu::{
    AdapterClass, Binding, BufferView, Capabilities, Gpu, Kernel, Limit, check_limit, shader,
    shared_struct,
};
use crate::ops::Dispatch;

/// The most candidates of a row.
pub const MAX_TOP_K: u32 = 32;

/// The largest vocabulary.
const MAX_VOCABULARY: u32 = 262_144;

/// Logits of a block.
const BLOCK: u32 = 2048;

/// Invocations that choose among the blocks of a row: what they list for the largest vocabulary fits.
const ROW_LANES: u32 = 256;

shared_struct! {
    /// Parameters shared with `shaders/tree/top_k_params.wgsl`.
    pub(crate) struct TopKParams {
        vocabulary: u32,
        row_stride: u32,
        rows: u32,
        request_rows: u32,
        first_row: u32,
        k: u32,
        blocks: u32,
        mapped: u32,
    }
}

/// Bytes that a list of `list` candidates takes, and what goes with it.
fn list_bytes(lanes: u32, list: u32) -> u64 {
    u64::from(lanes) * 12 + u64::from(list) * 8 + 4 + 16
}

pub(super) fn blocks_kernel(capabilities: &Capabilities) -> Kernel {
    // A workgroup of a CPU is as dear as its invocations are many; a GPU hides loads with them.
    let lanes = match capabilities.class {
        AdapterClass::Software => 64,
        _ => 256,
    };
    let list = MAX_TOP_K * (BLOCK / lanes);
    let bindings = [Binding::Uniform, Binding::Read, Binding::Write];
    Kernel::new(
        format!("tree/top_k/l{lanes}"),
        [lanes, 1, 1],
        TopKParams::LAYOUT,
        &bindings,
    )
    .constant("BLOCK", BLOCK)
    .constant("LIST", list)
    .source(shader!("tree/order.wgsl"))
    .source(shader!("tree/top_k_params.wgsl"))
    .source(shader!("tree/top_k_list.wgsl"))
    .source(shader!("tree/top_k.wgsl"))
    .workgroup_bytes(list_bytes(lanes, list))
}

pub(super) fn rows_kernel() -> Kernel {
    let list = MAX_TOP_K * (MAX_VOCABULARY / BLOCK * MAX_TOP_K).div_ceil(ROW_LANES);
    let bindings = [
        Binding::Uniform,
        Binding::Read,
        Binding::Read,
        Binding::Write,
    ];
    Kernel::new(
        "tree/top_k_rows",
        [ROW_LANES, 1, 1],
        TopKParams::LAYOUT,
        &bindings,
    )
    .constant("LIST", list)
    .source(shader!("tree/order.wgsl"))
    .source(shader!("tree/top_k_params.wgsl"))
    .source(shader!("tree/top_k_list.wgsl"))
    .source(shader!("tree/top_k_rows.wgsl"))
    .workgroup_bytes(list_bytes(ROW_LANES, list))
}

/// Which token each id of a shortened draft vocabulary stands for.
#[derive(Clone, Debug)]
pub struct TokenMap {
    buffer: Buffer,
    len: u32,
}

impl TokenMap {
    /// Uploads `tokens[draft id]`, each below `vocabulary` and none twice.
    ///
    /// # Errors
    /// [`TreeBuildError::TokenMap`], [`TreeBuildError::Size`] for an empty or too long list, and the errors of
    /// an allocation.
    pub fn new(gpu: &Gpu, tokens: &[u32], vocabulary: u32) -> Result<Self, TreeBuildError> {
        let fits = (1..=MAX_VOCABULARY as usize).contains(&tokens.len());
        check_size(
            "tokens",
            "from 1 to 262144 entries",
            tokens.len() as u64,
            fits,
        )?;
        let mut seen = HashMap::new();
        for (entry, &token) in tokens.iter().enumerate() {
            let fail = |problem| TreeBuildError::TokenMap {
                entry,
                token,
                problem,
            };
            if token >= vocabulary {
                return Err(fail("the model does not have"));
            }
            if seen.insert(token, entry).is_some() {
                return Err(fail("an earlier entry stands for too"));
            }
        }
        Ok(Self {
            buffer: gpu.storage_with("draft vocabulary", tokens)?,
            len: tokens.len() as u32,
        })
    }

    /// Ids of the draft vocabulary.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Never: a map has at least one id.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The rows that candidates are looked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopKShape {
    /// Logits of a row, at most 262,144: the ids of the draft vocabulary.
    pub vocabulary: u32,
    /// f32s from one row to the next, at least `vocabulary`.
    pub row_stride: u32,
    /// Candidates of a row, at most [`MAX_TOP_K`].
    pub k: u32,
    /// Requests.
    pub batch: u32,
    /// Rows of a request that are looked at.
    pub rows: u32,
    /// Rows from one request's first to the next request's, at least `first_row + rows`.
    pub request_rows: u32,
    /// Rows of a request before the first that is looked at.
    pub first_row: u32,
}

impl TopKShape {
    /// `k` candidates of each of `rows` dense rows of one request.
    pub fn new(vocabulary: u32, k: u32, rows: u32) -> Self {
        Self {
            vocabulary,
            row_stride: vocabulary,
            k,
            batch: 1,
            rows,
            request_rows: rows,
            first_row: 0,
        }
    }

    fn check(&self) -> Result<(), TreeBuildError> {
        let v = self.vocabulary;
        check_size(
            "vocabulary",
            "from 1 to 262144",
            v.into(),
            (1..=MAX_VOCABULARY).contains(&v),
        )?;
        let stride = u64::from(self.row_stride);
        check_size(
            "row_stride",
            "at least the vocabulary, at most 2^20",
            stride,
            (u64::from(v)..=1 << 20).contains(&stride),
        )?;
        check_size(
            "k",
            "from 1 to 32",
            self.k.into(),
            (1..=MAX_TOP_K).contains(&self.k),
        )?;
        let rows = u64::from(self.batch) * u64::from(self.rows);
        check_size(
            "batch * rows",
            "from 1 to 65535",
            rows,
            (1..=65_535).contains(&rows),
        )?;
        let request_rows = u64::from(self.request_rows);
        check_size(
            "request_rows",
            "at least first_row + rows, at most 65535",
            request_rows,
            request_rows >= u64::from(self.first_row) + u64::from(self.rows)
                && request_rows <= 65_535,
        )
    }

    /// Bytes of logits.
    fn logits_bytes(&self) -> u64 {
        let rows = (u64::from(self.batch) - 1) * u64::from(self.request_rows)
            + u64::from(self.first_row)
            + u64::from(self.rows);
        ((rows - 1) * u64::from(self.row_stride) + u64::from(self.vocabulary)) * 4
    }

    fn candidate_bytes(&self) -> u64 {
        u64::from(self.batch) * u64::from(self.rows) * u64::from(self.k) * 8
    }
}

/// The k likeliest tokens of each row, bound to its buffers. Ties go to the lower id. NaN and -inf are never
/// chosen; where a row has fewer than k other numbers, the token is [`NONE`](crate::tree::NONE).
///
/// ```
/// # use sunfleck::{gpu::Gpu, wgpu};
/// use sunfleck::tree::{TopK, TopKShape};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// # let instance = wgpu::Instance::default();
/// # let adapter = instance.request_adapter(&Default::default()).await?;
/// # let (device, queue) = adapter.request_device(&Default::default()).await?;
/// let gpu = Gpu::new(&device, &queue);
/// let logits = gpu.storage_with("logits", &[0.0f32, 2.0, 2.0, 1.0])?;
/// let top = TopK::new(&gpu, &TopKShape::new(4, 2, 1), (&logits).into(), None).await?;
/// let mut encoder = device.create_command_encoder(&Default::default());
/// top.encode(&mut encoder.begin_compute_pass(&Default::default()));
/// queue.submit([encoder.finish()]);
/// // (token, bits of the log-probability) each.
/// let words = gpu.read_buffer::<u32>(top.candidates()).await?;
/// assert_eq!((words[0], words[2]), (1, 2));
/// # Ok(())
/// # }
/// # pollster::block_on(example()).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct TopK {
    blocks: Dispatch,
    rows: Dispatch,
    block_groups: [u32; 3],
    row_groups: u32,
    candidates: Buffer,
}

impl TopK {
    /// Compiles, allocates candidates and binds: `logits` is `[batch, request_rows, row_stride]` of f32.
    ///
    /// # Errors
    /// [`TreeBuildError::Size`], [`TreeBuildError::ViewTooSmall`], and the errors of the device.
    pub async fn new(
        gpu: &Gpu,
        shape: &TopKShape,
        logits: BufferView<'_>,
        map: Option<&TokenMap>,
    ) -> Result<Self, TreeBuildError> {
        shape.check()?;
        let candidates = gpu.storage("draft candidates", shape.candidate_bytes())?;
        Self::onto(gpu, shape, logits, map, &candidates).await
    }

    /// As [`new`](Self::new), into `candidates`, whose first `[batch, rows, k]` entries are written.
    pub(super) async fn onto(
        gpu: &Gpu,
        shape: &TopKShape,
        logits: BufferView<'_>,
        map: Option<&TokenMap>,
        candidates: &Buffer,
    ) -> Result<Self, TreeBuildError> {
        shape.check()?;
        check_view("logits", logits.size, shape.logits_bytes())?;
        if let Some(map) = map {
            let fits = map.len() >= shape.vocabulary;
            check_size(
                "vocabulary",
                "at most the entries of the map",
                shape.vocabulary.into(),
                fits,
            )?;
        }
        let blocks = shape.vocabulary.div_ceil(BLOCK);
        let rows = shape.batch * shape.rows;
        for groups in [rows, blocks] {
            let limits = &gpu.capabilities().limits;
            check_limit(
                limits,
                "the rows of a top-k",
                Limit::Workgroups,
                groups.into(),
            )?;
        }
        let entries = u64::from(rows) * u64::from(blocks) * u64::from(shape.k + 1);
        let partial = gpu.storage("top-k of blocks", entries * 8)?;
        let params = TopKParams {
            vocabulary: shape.vocabulary,
            row_stride: shape.row_stride,
            rows: shape.rows,
            request_rows: shape.request_rows,
            first_row: shape.first_row,
            k: shape.k,
            blocks,
            mapped: u32::from(map.is_some()),
        };
        let uniform = gpu.uniform("tree/top_k", &params);
        let first = gpu.pipeline(&blocks_kernel(gpu.capabilities())).await?;
        let second = gpu.pipeline(&rows_kernel()).await?;
        let unused = gpu.storage("no draft vocabulary", 4)?;
        let first_arguments = gpu.bind(
            &first,
            &[
                ("params", BufferView::whole(&uniform)),
                ("logits", logits),
                ("blocks", BufferView::whole(&partial)),
            ],
        )?;
        let second_arguments = gpu.bind(
            &second,
            &[
                ("params", BufferView::whole(&uniform)),
                ("blocks", BufferView::whole(&partial)),
                (
                    "token_map",
                    BufferView::whole(map.map_or(&unused, |map| &map.buffer)),
                ),
                ("candidates", BufferView::whole(candidates)),
            ],
        )?;
        Ok(Self {
            blocks: Dispatch::new(first, first_arguments),
            rows: Dispatch::new(second, second_arguments),
            block_groups: [blocks, rows, 1],
            row_groups: rows,
            candidates: candidates.clone(),
        })
    }

    /// `[batch, rows, k]` of (u32 token, f32 log-probability), best first.
    pub fn candidates(&self) -> &Buffer {
        &self.candidates
    }

    /// Records the search; allocates nothing.
    pub fn encode(&self, pass: &mut ComputePass<'_>) {
        self.blocks.encode(pass, self.block_groups);
        self.rows.encode(pass, [self.row_groups, 1, 1]);
    }
}
