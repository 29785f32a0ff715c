//! Draft trees whose tokens are drawn by chance, on the GPU.

use bytemuck::{Pod, Zeroable};
use wgpu::{Buffer, ComputePass};

use super::build_error::{check_size, check_view};
use super::on_gpu::{MAX_BUILT_NODES, room};
use super::{MAX_TOP_K, TreeBuildError};
use crate::gpu::{
    AdapterClass, Binding, BufferView, Capabilities, Gpu, Kernel, Limit, check_limit, shader,
    shared_struct,
};
use crate::ops::Dispatch;
use crate::tree::{DrawKind, blob_words};

/// Logits of a block.
const BLOCK: u32 = 2048;
/// Blocks of the largest vocabulary.
const MAX_BLOCKS: u32 = 262_144 / BLOCK;
/// Invocations that choose among the blocks of a row: what they list for the largest vocabulary fits.
const ROW_LANES: u32 = 256;
const GROW_LANES: u32 = 64;
/// The most levels: a random number's counter has six bits for them.
const MAX_LEVELS: u32 = 63;

shared_struct! {
    /// Parameters shared with `shaders/tree/draw_params.wgsl`.
    pub(crate) struct DrawParams {
        vocabulary: u32,
        row_stride: u32,
        logit_rows: u32,
        rows: u32,
        draws: u32,
        k: u32,
        blocks: u32,
        depth: u32,
        noisy: u32,
        cut: u32,
    }
}

shared_struct! {
    /// Parameters shared with `shaders/tree/grow.wgsl`.
    pub(crate) struct GrowParams {
        nodes: u32,
        rows: u32,
        width: u32,
        depth: u32,
        tree_stride: u32,
        tree_words: u32,
    }
}

/// Bytes that a list of `list` candidates takes, and what goes with it.
fn list_bytes(lanes: u32, list: u32) -> u64 {
    u64::from(lanes) * 12 + u64::from(list) * 8 + 4 + 16
}

pub(super) fn draw_kernel(capabilities: &Capabilities) -> Kernel {
    use Binding::{Read, Uniform, Write};
    // A workgroup of a CPU is as dear as its invocations are many; a GPU hides loads with them.
    let lanes = match capabilities.class {
        AdapterClass::Software => 64,
        _ => 256,
    };
    let list = MAX_TOP_K * (BLOCK / lanes);
    Kernel::new(
        format!("tree/draw/l{lanes}"),
        [lanes, 1, 1],
        DrawParams::LAYOUT,
        &[Uniform, Read, Read, Read, Read, Read, Write],
    )
    .constant("BLOCK", BLOCK)
    .constant("LIST", list)
    .source(shader!("tree/order.wgsl"))
    .source(shader!("tree/draw_params.wgsl"))
    .source(shader!("tree/top_k_list.wgsl"))
    .source(shader!("verify/philox.wgsl"))
    .source(shader!("tree/draw.wgsl"))
    .workgroup_bytes(list_bytes(lanes, list) + 4)
}

pub(super) fn rows_kernel() -> Kernel {
    let list = MAX_TOP_K * (MAX_BLOCKS * MAX_TOP_K).div_ceil(ROW_LANES);
    Kernel::new(
        "tree/draw_rows",
        [ROW_LANES, 1, 1],
        DrawParams::LAYOUT,
        &[Binding::Uniform, Binding::Read, Binding::Write],
    )
    .constant("LIST", list)
    .source(shader!("tree/order.wgsl"))
    .source(shader!("tree/draw_params.wgsl"))
    .source(shader!("tree/top_k_list.wgsl"))
    .source(shader!("tree/draw_rows.wgsl"))
    .workgroup_bytes(list_bytes(ROW_LANES, list))
}

pub(super) fn grow_kernel(room: u32) -> Kernel {
    use Binding::{Read, Uniform, Write};
    Kernel::new(
        format!("tree/grow/n{room}"),
        [GROW_LANES, 1, 1],
        GrowParams::LAYOUT,
        &[Uniform, Read, Write, Write, Write],
    )
    .constant("MAX_NODES", room)
    .source(shader!("tree/order.wgsl"))
    .source(shader!("tree/grow.wgsl"))
    .source(shader!("tree/link.wgsl"))
    .workgroup_bytes(u64::from(room) * 12 + 4)
}

/// The sizes of a batch of sampled trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampledTreeShape {
    /// Requests, at most 4096.
    pub batch: u32,
    /// Children that each node of a level gets, from the root's on: at most 32 each, at most 512 nodes together.
    pub children: Vec<u32>,
    /// Tokens, at most 262,144.
    pub vocabulary: u32,
    /// f32s from one row of logits to the next, at least `vocabulary`.
    pub row_stride: u32,
    /// Rows of logits of a request, at least [`inner_nodes`](Self::inner_nodes): the `draft_rows` of the verification.
    pub logit_rows: u32,
    /// Nodes that the blobs have room for.
    pub tree_stride: u32,
    /// Independent draws, or without replacement.
    pub draw: DrawKind,
    /// The largest `top_k` of any request, at most 32; 0 where none has one.
    pub max_top_k: u32,
}

impl SampledTreeShape {
    /// One request with dense logits and a blob that just fits.
    pub fn new(children: &[u32], vocabulary: u32, draw: DrawKind) -> Self {
        let mut shape = Self {
            batch: 1,
            children: children.to_vec(),
            vocabulary,
            row_stride: vocabulary,
            logit_rows: 0,
            tree_stride: 0,
            draw,
            max_top_k: 0,
        };
        shape.logit_rows = shape.inner_nodes().max(1);
        shape.tree_stride = shape.nodes();
        shape
    }

    /// Most nodes of each level, the root's first.
    fn widths(&self) -> impl Iterator<Item = u32> {
        let mut width = 1u32;
        std::iter::once(1).chain(self.children.iter().map(move |children| {
            width = width.saturating_mul(*children);
            width
        }))
    }

    /// Most nodes, the root included.
    pub fn nodes(&self) -> u32 {
        self.widths().fold(0, u32::saturating_add)
    }

    /// Most nodes that have children.
    pub fn inner_nodes(&self) -> u32 {
        self.widths()
            .take(self.children.len())
            .fold(0, u32::saturating_add)
    }

    fn check(&self) -> Result<(), TreeBuildError> {
        let is = |name, needed, given: u64, holds| check_size(name, needed, given, holds);
        is(
            "batch",
            "from 1 to 4096",
            self.batch.into(),
            (1..=4096).contains(&self.batch),
        )?;
        let levels = self.children.len() as u64;
        is(
            "levels",
            "from 1 to 63",
            levels,
            (1..=u64::from(MAX_LEVELS)).contains(&levels),
        )?;
        for &children in &self.children {
            let fits = (1..=MAX_TOP_K).contains(&children);
            is("children", "from 1 to 32", children.into(), fits)?;
        }
        is(
            "nodes",
            "at most 512 together",
            self.nodes().into(),
            self.nodes() <= MAX_BUILT_NODES,
        )?;
        let v = self.vocabulary;
        is(
            "vocabulary",
            "from 1 to 262144",
            v.into(),
            (1..=262_144).contains(&v),
        )?;
        is(
            "row_stride",
            "at least the vocabulary, at most 2^20",
            self.row_stride.into(),
            (v..=1 << 20).contains(&self.row_stride),
        )?;
        is(
            "logit_rows",
            "at least the nodes that have children, at most 4096",
            self.logit_rows.into(),
            (self.inner_nodes()..=4096).contains(&self.logit_rows),
        )?;
        is(
            "tree_stride",
            "from the number of nodes to 4096",
            self.tree_stride.into(),
            (self.nodes()..=crate::tree::MAX_NODES as u32).contains(&self.tree_stride),
        )?;
        is(
            "max_top_k",
            "at most 32",
            self.max_top_k.into(),
            self.max_top_k <= MAX_TOP_K,
        )?;
        is(
            "draw",
            "Iid or WithoutReplacement (for TopK there are DynamicTree and FixedTree)",
            self.draw as u64,
            self.draw != DrawKind::TopK,
        )
    }
}

/// How the children of a request's trees are drawn: what [`verify::Sampling`](crate::verify::Sampling) has to say of
/// the drafts too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DraftSampling {
    /// Key of the random numbers.
    pub seed: u64,
    /// Logits are divided by it; above 0.
    pub temperature: f32,
    /// Only so many of the likeliest tokens stay, the lower id of equal ones; 0 keeps all.
    pub top_k: u32,
}

/// `DrawRequest` of `shaders/tree/draw_params.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct RequestWords {
    seed: [u32; 2],
    temperature: f32,
    top_k: u32,
}

/// The buffers of sampled trees.
#[derive(Clone, Copy, Debug)]
pub struct SampledTreeIo<'a> {
    /// The draft model's logits, `[batch, logit_rows, row_stride]` of f32: row `i` is that after node `i`. The
    /// verification reads the same buffer.
    pub logits: BufferView<'a>,
    /// `[batch]` blobs of `tree_stride` nodes; the first word of each, the root's token, is kept.
    pub tree: BufferView<'a>,
    /// `[batch]` of four u32s: the first becomes the number of nodes, the second is the root's position.
    pub lengths: BufferView<'a>,
}

/// Trees whose children are drawn from the draft model's distribution, level by level, bound to their buffers:
/// independently, or without replacement by the Gumbel-top-k trick (Kool et al. 2019). With
/// [`Rule::Rejection`](crate::verify::Rule::Rejection) or [`Rule::Traversal`](crate::verify::Rule::Traversal) they
/// are verified without loss.
///
/// Random numbers are keyed by seed, position, child, depth, node and token, so that neither batch nor padding
/// matters. A node with too few tokens of any probability gets fewer children. The row of a node's draft
/// distribution ([`DraftTree::q_rows`](crate::tree::DraftTree::q_rows)) is the number of its parent.
///
/// ```
/// # use sunfleck::{gpu::Gpu, wgpu};
/// use sunfleck::tree::{DraftSampling, DraftTree, DrawKind, SampledTree, SampledTreeIo, SampledTreeShape};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// # let instance = wgpu::Instance::default();
/// # let adapter = instance.request_adapter(&Default::default()).await?;
/// # let (device, queue) = adapter.request_device(&Default::default()).await?;
/// let gpu = Gpu::new(&device, &queue);
/// // Two children of the root, one of each of those. The draft model here says the same after every token.
/// let shape = SampledTreeShape::new(&[2, 1], 4, DrawKind::WithoutReplacement);
/// let logits = gpu.storage_with("logits", [[0.0f32, 2.0, 1.0, f32::NEG_INFINITY]; 3].as_flattened())?;
/// let blob = gpu.storage_with("tree", &DraftTree::root_only(2).blob(5)?)?;
/// let lengths = gpu.storage_with("lengths", &[1u32, 17, 0, 0])?;
/// let io = SampledTreeIo { logits: (&logits).into(), tree: (&blob).into(), lengths: (&lengths).into() };
/// let sampled = SampledTree::new(&gpu, &shape, &io).await?;
/// sampled.set_request(0, &DraftSampling { seed: 7, temperature: 1.0, top_k: 0 })?;
/// let mut encoder = device.create_command_encoder(&Default::default());
/// {
///     let mut pass = encoder.begin_compute_pass(&Default::default());
///     sampled.encode_level(&mut pass, 0); // after the draft model's pass over the root
///     sampled.encode_level(&mut pass, 1); // and over the two nodes of the first level
/// }
/// queue.submit([encoder.finish()]);
/// let tree = DraftTree::from_blob(&gpu.read_buffer(&blob).await?, 5, DrawKind::WithoutReplacement)?;
/// assert_eq!(tree.depths(), [0, 1, 1, 2, 2]);
/// assert!(tree.tokens()[1..].iter().all(|token| *token != 3));
/// # Ok(())
/// # }
/// # pollster::block_on(example()).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct SampledTree {
    gpu: Gpu,
    shape: SampledTreeShape,
    requests: Buffer,
    frontier: Buffer,
    levels: Vec<Level>,
}

/// The dispatches of a level, with the workgroups of each.
#[derive(Clone, Debug)]
struct Level(Vec<(Dispatch, [u32; 3])>);

impl SampledTree {
    /// Compiles, allocates and binds. Until [`set_request`](Self::set_request) says otherwise, requests have seed
    /// 0, temperature 1 and no cut.
    ///
    /// # Errors
    /// [`TreeBuildError::Size`], [`TreeBuildError::ViewTooSmall`], and the errors of the device.
    pub async fn new(
        gpu: &Gpu,
        shape: &SampledTreeShape,
        io: &SampledTreeIo<'_>,
    ) -> Result<Self, TreeBuildError> {
        shape.check()?;
        let batch = u64::from(shape.batch);
        let rows = batch * u64::from(shape.logit_rows);
        let words = blob_words(shape.tree_stride as usize) as u64;
        let logits = (rows - 1) * u64::from(shape.row_stride) + u64::from(shape.vocabulary);
        check_view("logits", io.logits.size, logits * 4)?;
        check_view("tree", io.tree.size, batch * words * 4)?;
        check_view("lengths", io.lengths.size, batch * 16)?;
        let blocks = shape.vocabulary.div_ceil(BLOCK);
        let widest = shape.widths().take(shape.children.len()).max().unwrap_or(1);
        let most = *shape.children.iter().max().unwrap_or(&1);
        let limits = &gpu.capabilities().limits;
        let groups = u64::from(widest) * u64::from(most);
        check_limit(limits, "the draws of a level", Limit::Workgroups, groups)?;
        // Iid has one token of each draw, draws without replacement have one draw; the cut has its list.
        let list = u64::from(most.max(shape.max_top_k));
        let entries = batch * u64::from(widest) * list;
        let partial = gpu.storage("draws of blocks", entries * u64::from(blocks) * 8)?;
        let candidates = gpu.storage("draws", entries * 8)?;
        let cut_entries = batch * u64::from(widest) * u64::from(shape.max_top_k);
        let cuts = gpu.storage("cuts of draws", cut_entries.max(1) * 8)?;
        let default = RequestWords {
            seed: [0; 2],
            temperature: 1.0,
            top_k: 0,
        };
        let requests = gpu.storage_with("draft sampling", &vec![default; shape.batch as usize])?;
        let frontier = gpu.storage("levels", batch * 8)?;

        let draw = gpu.pipeline(&draw_kernel(gpu.capabilities())).await?;
        let best = gpu.pipeline(&rows_kernel()).await?;
        let grow = gpu.pipeline(&grow_kernel(room(shape.nodes()))).await?;
        fn whole(buffer: &Buffer) -> BufferView<'_> {
            BufferView::whole(buffer)
        }
        let mut levels = Vec::new();
        for ((&children, width), depth) in shape.children.iter().zip(shape.widths()).zip(1..) {
            let mut dispatches = Vec::new();
            let mut search = |noisy: bool, into: &Buffer| -> Result<(), TreeBuildError> {
                let (draws, k) = match (noisy, shape.draw) {
                    (false, _) => (1, shape.max_top_k),
                    (true, DrawKind::Iid) => (children, 1),
                    (true, _) => (1, children),
                };
                let params = DrawParams {
                    vocabulary: shape.vocabulary,
                    row_stride: shape.row_stride,
                    logit_rows: shape.logit_rows,
                    rows: width,
                    draws,
                    k,
                    blocks,
                    depth,
                    noisy: u32::from(noisy),
                    cut: shape.max_top_k,
                };
                let uniform = gpu.uniform("tree/draw", &params);
                // The first pass writes the cuts, and reads none: another buffer stands in for them.
                let read_cuts = if noisy { &cuts } else { &candidates };
                let arguments = gpu.bind(
                    &draw,
                    &[
                        ("params", whole(&uniform)),
                        ("requests", whole(&requests)),
                        ("logits", io.logits),
                        ("lengths", io.lengths),
                        ("levels", whole(&frontier)),
                        ("cuts", whole(read_cuts)),
                        ("blocks", whole(&partial)),
                    ],
                )?;
                let groups = [blocks, width * draws, shape.batch];
                dispatches.push((Dispatch::new(draw.clone(), arguments), groups));
                let arguments = gpu.bind(
                    &best,
                    &[
                        ("params", whole(&uniform)),
                        ("blocks", whole(&partial)),
                        ("candidates", whole(into)),
                    ],
                )?;
                let groups = [width * draws, shape.batch, 1];
                dispatches.push((Dispatch::new(best.clone(), arguments), groups));
                Ok(())
            };
            if shape.max_top_k > 0 {
                search(false, &cuts)?;
            }
            search(true, &candidates)?;
            let params = GrowParams {
                nodes: shape.nodes(),
                rows: width,
                width: children,
                depth,
                tree_stride: shape.tree_stride,
                tree_words: words as u32,
            };
            let uniform = gpu.uniform("tree/grow", &params);
            let arguments = gpu.bind(
                &grow,
                &[
                    ("params", whole(&uniform)),
                    ("candidates", whole(&candidates)),
                    ("tree", io.tree),
                    ("lengths", io.lengths),
                    ("levels", whole(&frontier)),
                ],
            )?;
            dispatches.push((Dispatch::new(grow.clone(), arguments), [shape.batch, 1, 1]));
            levels.push(Level(dispatches));
        }
        Ok(Self {
            gpu: gpu.clone(),
            shape: shape.clone(),
            requests,
            frontier,
            levels,
        })
    }

    /// The sizes.
    pub fn shape(&self) -> &SampledTreeShape {
        &self.shape
    }

    /// Says how a request's children are drawn from the next submission on.
    ///
    /// # Errors
    /// [`TreeBuildError::Size`] for a request outside the batch, a `top_k` above the shape's, and
    /// [`TreeBuildError::Temperature`].
    pub fn set_request(&self, index: u32, sampling: &DraftSampling) -> Result<(), TreeBuildError> {
        let (batch, most) = (self.shape.batch, self.shape.max_top_k);
        check_size("request", "inside the batch", index.into(), index < batch)?;
        let fits = sampling.top_k <= most;
        check_size(
            "top_k",
            "at most the shape's max_top_k",
            sampling.top_k.into(),
            fits,
        )?;
        let temperature = sampling.temperature;
        if !(temperature.is_finite() && temperature > 0.0) {
            return Err(TreeBuildError::Temperature { given: temperature });
        }
        let words = RequestWords {
            seed: [sampling.seed as u32, (sampling.seed >> 32) as u32],
            // Logits below 3e8 stay apart: less would tie them at the largest f32.
            temperature: temperature.max(1e-30),
            top_k: sampling.top_k,
        };
        let offset = u64::from(index) * size_of::<RequestWords>() as u64;
        (self.gpu.queue()).write_buffer(&self.requests, offset, bytemuck::bytes_of(&words));
        Ok(())
    }

    /// The newest level of each request, `[batch]` of (first node, one past its last), for the draft model's next
    /// pass.
    pub fn frontier(&self) -> &Buffer {
        &self.frontier
    }

    /// Records the children of the nodes of level `level`, the root's 0, after the draft model's pass over them; no
    /// more levels than the shape has. The blob and the first word of lengths are those of the tree so far.
    pub fn encode_level(&self, pass: &mut ComputePass<'_>, level: usize) {
        for (dispatch, groups) in self.levels.get(level).iter().flat_map(|level| &level.0) {
            dispatch.encode(pass, *groups);
        }
    }
}
