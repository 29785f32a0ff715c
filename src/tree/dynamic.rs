//! Trees that grow where the draft model is sure (Li et al. 2024, EAGLE-2).

use wgpu::{Buffer, ComputePass};

use super::build_error::{check_size, check_view};
use super::on_gpu::{MAX_BUILT_NODES, room};
use super::{TokenMap, TopK, TopKShape, TreeBuildError};
use crate::gpu::{Binding, BufferView, Gpu, Kernel, Pipeline, Source, shader, shared_struct};
use crate::ops::Dispatch;
use crate::tree::blob_words;

const LANES: u32 = 64;

/// The most candidates that a request's drafting may have.
const MAX_ENTRIES: u64 = 8192;

shared_struct! {
    /// Parameters shared with `shaders/tree/dynamic_params.wgsl`.
    pub(crate) struct DynamicParams {
        entries: u32,
        width: u32,
        children: u32,
        max_nodes: u32,
        tree_stride: u32,
        tree_words: u32,
        begin: u32,
        rows: u32,
        first_node: u32,
        next_rows: u32,
        next_node: u32,
        level: u32,
    }
}

/// Bytes of `link.wgsl`, and of `select.wgsl`.
fn link_bytes(room: u32) -> u64 {
    u64::from(room) * 12
}
const SELECT_BYTES: u64 = 256 * 4 + 8 + LANES as u64 * 8;

fn base(name: &str, room: u32, bindings: &[Binding]) -> Kernel {
    let name = format!("tree/{name}/n{room}");
    Kernel::new(name, [LANES, 1, 1], DynamicParams::LAYOUT, bindings)
        .constant("MAX_NODES", room)
        .source(shader!("tree/order.wgsl"))
        .source(shader!("tree/dynamic_params.wgsl"))
        .source(shader!("tree/link.wgsl"))
}

/// Params, pool, tree, sequences, frontier, lengths, and one more.
fn with_frontier(name: &str, room: u32, last: Binding) -> Kernel {
    use Binding::{Read, Uniform, Write};
    base(
        name,
        room,
        &[Uniform, Write, Write, Write, Write, Read, last],
    )
    .source(shader!("tree/frontier.wgsl"))
}

fn begin(room: u32) -> Kernel {
    with_frontier("begin", room, Binding::Read)
        .source(shader!("tree/begin.wgsl"))
        .workgroup_bytes(link_bytes(room))
}

fn selecting(kernel: Kernel, room: u32, source: Source) -> Kernel {
    kernel
        .source(shader!("tree/select.wgsl"))
        .source(source)
        .workgroup_bytes(link_bytes(room) + SELECT_BYTES)
}

fn expand(room: u32) -> Kernel {
    let kernel = with_frontier("expand", room, Binding::Read);
    selecting(kernel, room, shader!("tree/expand.wgsl"))
}

fn finish(room: u32) -> Kernel {
    use Binding::{Uniform, Write};
    let kernel = base("finish", room, &[Uniform, Write, Write, Write]);
    selecting(kernel, room, shader!("tree/finish.wgsl"))
}

pub(super) fn kernels(room: u32) -> [Kernel; 3] {
    [begin(room), expand(room), finish(room)]
}

/// How a dynamic tree grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DynamicTreeShape {
    /// Requests, each with a tree of its own.
    pub batch: u32,
    /// Levels that are drafted, at least 1.
    pub depth: u32,
    /// Most nodes of a level that the draft model runs on.
    pub width: u32,
    /// Candidates of each of them, at most [`MAX_TOP_K`](super::MAX_TOP_K) and the vocabulary.
    pub children: u32,
    /// Most nodes of the finished tree, the root included.
    pub max_nodes: u32,
    /// Nodes that the blob of the finished tree has room for.
    pub tree_stride: u32,
    /// Logits of a row of the draft model.
    pub vocabulary: u32,
    /// f32s from one row of logits to the next.
    pub row_stride: u32,
}

impl DynamicTreeShape {
    /// One request with dense logits. A chain is `width` 1 and `children` 1.
    pub fn new(depth: u32, width: u32, children: u32, max_nodes: u32, vocabulary: u32) -> Self {
        Self {
            batch: 1,
            depth,
            width,
            children,
            max_nodes,
            tree_stride: max_nodes,
            vocabulary,
            row_stride: vocabulary,
        }
    }

    /// Nodes of `level` that the draft model runs on: the root alone at level 0.
    pub fn rows(&self, level: u32) -> u32 {
        // Each level has all candidates of the one before, cut to the width.
        let next = |rows: u32, _| self.width.min(rows.saturating_mul(self.children));
        (0..level.min(self.depth)).fold(1, next)
    }

    /// Node of the drafting blob that is the first of `level`.
    pub fn first_node(&self, level: u32) -> u32 {
        (0..level.min(self.depth))
            .map(|level| self.rows(level))
            .sum()
    }

    /// Nodes that the draft model runs on: the stride of the drafting blob.
    pub fn drafting_nodes(&self) -> u32 {
        self.first_node(self.depth)
    }

    /// Candidates before those of `level`, the root included.
    fn entries_before(&self, level: u32) -> u32 {
        1 + (0..level)
            .map(|level| self.rows(level) * self.children)
            .sum::<u32>()
    }

    fn check(&self) -> Result<(), TreeBuildError> {
        let is = |name, needed, given: u32, holds| check_size(name, needed, given.into(), holds);
        is(
            "batch",
            "from 1 to 4096",
            self.batch,
            (1..=4096).contains(&self.batch),
        )?;
        is(
            "depth",
            "from 1 to 64",
            self.depth,
            (1..=64).contains(&self.depth),
        )?;
        is(
            "width",
            "from 1 to 256",
            self.width,
            (1..=256).contains(&self.width),
        )?;
        let most = super::MAX_TOP_K.min(self.vocabulary);
        is(
            "children",
            "from 1 to 32, and at most the vocabulary",
            self.children,
            (1..=most).contains(&self.children),
        )?;
        is(
            "max_nodes",
            "from 1 to 512",
            self.max_nodes,
            (1..=MAX_BUILT_NODES).contains(&self.max_nodes),
        )?;
        is(
            "tree_stride",
            "from max_nodes to 4096",
            self.tree_stride,
            (self.max_nodes..=crate::tree::MAX_NODES as u32).contains(&self.tree_stride),
        )?;
        is(
            "row_stride",
            "at least the vocabulary, at most 2^20",
            self.row_stride,
            (self.vocabulary..=1 << 20).contains(&self.row_stride),
        )?;
        let nodes = self.drafting_nodes();
        is(
            "nodes that the draft model runs on (by width and depth)",
            "at most 512",
            nodes,
            nodes <= MAX_BUILT_NODES,
        )?;
        let entries = u64::from(self.entries_before(self.depth));
        check_size(
            "candidates (by width, children and depth)",
            "at most 8192",
            entries,
            entries <= MAX_ENTRIES,
        )
    }
}

/// The buffers of a dynamic tree.
#[derive(Clone, Copy, Debug)]
pub struct DynamicTreeIo<'a> {
    /// Logits of the draft model for the nodes of the present level, `[batch, width, row_stride]` of f32.
    pub logits: BufferView<'a>,
    /// The finished trees: `[batch]` blobs of `tree_stride`. The first word of each, the root's token, is
    /// read by [`DynamicTree::encode_begin`]; the rest is written by [`DynamicTree::encode_finish`].
    pub tree: BufferView<'a>,
    /// `[batch]` of four u32s: (rows, past, 0, 0), as a [`StepBuffer`](crate::ops::StepBuffer). The second is
    /// read; the first becomes the number of nodes of the finished tree.
    pub lengths: BufferView<'a>,
    /// The shortened vocabulary of the draft model, if it has one.
    pub map: Option<&'a TokenMap>,
}

/// A draft tree that grows level by level by the draft model's own probabilities, and of whose candidates
/// the likeliest are kept, bound to its buffers. The cumulative log-probability decides, ties go to the lower
/// index; a child is never likelier than its parent, so the kept nodes are a tree. Its draw is
/// [`DrawKind::TopK`](crate::tree::DrawKind::TopK).
///
/// A step is: [`encode_begin`](Self::encode_begin); for each level the draft model on the nodes of
/// [`tokens`](Self::tokens), then [`encode_level`](Self::encode_level), all levels or only the first ones;
/// [`encode_finish`](Self::encode_finish). After each level the [`drafting`](Self::drafting) blob is a valid tree of
/// the nodes that the draft model runs on, the present ones last.
///
/// ```
/// use sunfleck::tree::{DraftTree, DrawKind, DynamicTree, DynamicTreeIo, DynamicTreeShape};
/// use sunfleck::{gpu::Gpu, wgpu};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// # let instance = wgpu::Instance::default();
/// # let adapter = instance.request_adapter(&Default::default()).await?;
/// # let (device, queue) = adapter.request_device(&Default::default()).await?;
/// let gpu = Gpu::new(&device, &queue);
/// // Two levels of at most two nodes with two candidates each; the best four nodes, the root included.
/// let shape = DynamicTreeShape::new(2, 2, 2, 4, 4);
/// let logits = gpu.storage("logits", 2 * 4 * 4)?; // [width, vocabulary]
/// let blob = gpu.storage_with("tree", &DraftTree::root_only(2).blob(4)?)?;
/// let lengths = gpu.storage_with("lengths", &[1u32, 17, 0, 0])?;
/// let dynamic = DynamicTree::new(&gpu, &shape, &DynamicTreeIo {
///     logits: (&logits).into(),
///     tree: (&blob).into(),
///     lengths: (&lengths).into(),
///     map: None,
/// }).await?;
/// // In place of a draft model: after the root token 1 is likelier than 3, after both of them only 0 is likely.
/// let levels = [[[0.0f32, 9.0, 0.0, 8.5], [0.0; 4]], [[9.0, 0.0, 0.0, 0.0], [9.0, 0.0, 0.0, 0.0]]];
/// for (level, rows) in (0..).zip(&levels) {
///     queue.write_buffer(&logits, 0, bytemuck::cast_slice(rows.as_flattened()));
///     let mut encoder = device.create_command_encoder(&Default::default());
///     let mut pass = encoder.begin_compute_pass(&Default::default());
///     if level == 0 {
///         dynamic.encode_begin(&mut pass);
///     }
///     dynamic.encode_level(&mut pass, level);
///     if level + 1 == shape.depth {
///         dynamic.encode_finish(&mut pass);
///     }
///     drop(pass);
///     queue.submit([encoder.finish()]);
/// }
///
/// let tree = DraftTree::from_blob(&gpu.read_buffer(&blob).await?, 4, DrawKind::TopK)?;
/// assert_eq!(tree.to_text(|token| token.to_string()), "2\n├─ 1\n│  └─ 0\n└─ 3\n");
/// # Ok(())
/// # }
/// # pollster::block_on(example()).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct DynamicTree {
    shape: DynamicTreeShape,
    begin: Dispatch,
    levels: Vec<(TopK, Dispatch)>,
    finish: Dispatch,
    finish_params: DynamicParams,
    finish_uniform: Buffer,
    drafting: Buffer,
    sequences: Buffer,
    frontier: Buffer,
}

impl DynamicTree {
    /// Compiles, allocates and binds.
    ///
    /// # Errors
    /// [`TreeBuildError::Size`], [`TreeBuildError::ViewTooSmall`], and the errors of the device.
    pub async fn new(
        gpu: &Gpu,
        shape: &DynamicTreeShape,
        io: &DynamicTreeIo<'_>,
    ) -> Result<Self, TreeBuildError> {
        shape.check()?;
        let batch = u64::from(shape.batch);
        let finished_words = blob_words(shape.tree_stride as usize) as u64;
        let drafting_words = blob_words(shape.drafting_nodes() as usize) as u64;
        let entries = shape.entries_before(shape.depth);
        check_view("tree", io.tree.size, batch * finished_words * 4)?;
        check_view("lengths", io.lengths.size, batch * 16)?;
        let pool = gpu.storage("draft pool", batch * u64::from(entries) * 16)?;
        let drafting = gpu.storage("drafting tree", batch * drafting_words * 4)?;
        let sequences = gpu.storage("frontier sequences", batch * 16)?;
        let frontier = gpu.storage("frontier", Self::section(shape) * 16)?;
        let most_rows = (0..shape.depth)
            .map(|level| shape.rows(level))
            .max()
            .unwrap_or(1);
        let candidates = gpu.storage(
            "draft candidates",
            batch * u64::from(most_rows) * u64::from(shape.children) * 8,
        )?;
        let common = DynamicParams {
            entries,
            width: shape.width,
            children: shape.children,
            max_nodes: shape.max_nodes,
            tree_stride: shape.drafting_nodes(),
            tree_words: drafting_words as u32,
            begin: 0,
            rows: 0,
            first_node: 0,
            next_rows: 0,
            next_node: 0,
            level: 0,
        };
        let drafting_room = room(shape.drafting_nodes());

        let pipeline = gpu.pipeline(&begin(drafting_room)).await?;
        let params = DynamicParams {
            begin: finished_words as u32,
            ..common
        };
        let bind = |pipeline: &Pipeline, params: &DynamicParams, last| {
            let uniform = gpu.uniform(&pipeline.name, params);
            let views = [
                ("params", BufferView::whole(&uniform)),
                ("pool", BufferView::whole(&pool)),
                ("drafting", BufferView::whole(&drafting)),
                ("sequences", BufferView::whole(&sequences)),
                ("frontier", BufferView::whole(&frontier)),
                ("lengths", io.lengths),
                last,
            ];
            gpu.bind(pipeline, &views)
        };
        let arguments = bind(&pipeline, &params, ("tree", io.tree))?;
        let begin = Dispatch::new(pipeline, arguments);

        let pipeline = gpu.pipeline(&expand(drafting_room)).await?;
        let mut levels = Vec::new();
        for level in 0..shape.depth {
            let top_shape = TopKShape {
                vocabulary: shape.vocabulary,
                row_stride: shape.row_stride,
                k: shape.children,
                batch: shape.batch,
                rows: shape.rows(level),
                request_rows: shape.width,
                first_row: 0,
            };
            let top = TopK::onto(gpu, &top_shape, io.logits, io.map, &candidates).await?;
            let goes_on = level + 1 < shape.depth;
            let params = DynamicParams {
                begin: shape.entries_before(level),
                rows: shape.rows(level),
                first_node: shape.first_node(level),
                next_rows: if goes_on { shape.rows(level + 1) } else { 0 },
                next_node: shape.first_node(level + 1),
                level: level + 1,
                ..common
            };
            let arguments = bind(
                &pipeline,
                &params,
                ("candidates", BufferView::whole(&candidates)),
            )?;
            levels.push((top, Dispatch::new(pipeline.clone(), arguments)));
        }

        let pipeline = gpu.pipeline(&finish(room(shape.max_nodes))).await?;
        let params = DynamicParams {
            tree_stride: shape.tree_stride,
            tree_words: finished_words as u32,
            ..common
        };
        let uniform = gpu.uniform(&pipeline.name, &params);
        let arguments = gpu.bind(
            &pipeline,
            &[
                ("params", BufferView::whole(&uniform)),
                ("pool", BufferView::whole(&pool)),
                ("tree", io.tree),
                ("lengths", io.lengths),
            ],
        )?;
        Ok(Self {
            shape: *shape,
            begin,
            levels,
            finish: Dispatch::new(pipeline, arguments),
            finish_params: params,
            finish_uniform: uniform,
            drafting,
            sequences,
            frontier,
        })
    }

    /// Words of one section of the frontier, a multiple of 64 so that each may be bound.
    fn section(shape: &DynamicTreeShape) -> u64 {
        (u64::from(shape.batch) * u64::from(shape.width)).next_multiple_of(64)
    }

    fn view(&self, section: u64) -> BufferView<'_> {
        let bytes = Self::section(&self.shape) * 4;
        BufferView::range(&self.frontier, section * bytes, bytes)
    }

    /// The shape.
    pub fn shape(&self) -> &DynamicTreeShape {
        &self.shape
    }

    /// Lets finished trees have at most `nodes` nodes from the next submission on.
    ///
    /// # Errors
    /// [`TreeBuildError::Size`] for none, or more than [`DynamicTreeShape::max_nodes`].
    pub fn set_max_nodes(&mut self, gpu: &Gpu, nodes: u32) -> Result<(), TreeBuildError> {
        check_size(
            "nodes",
            "from 1 to the shape's max_nodes",
            nodes.into(),
            (1..=self.shape.max_nodes).contains(&nodes),
        )?;
        if self.finish_params.max_nodes != nodes {
            self.finish_params.max_nodes = nodes;
            let bytes = bytemuck::bytes_of(&self.finish_params);
            gpu.queue().write_buffer(&self.finish_uniform, 0, bytes);
        }
        Ok(())
    }

    /// `[batch]` blobs of [`DynamicTreeShape::drafting_nodes`] nodes: the nodes that the draft model ran on and
    /// the present level's. Where logits had too few numbers for a level, padding nodes fill it up.
    pub fn drafting(&self) -> &Buffer {
        &self.drafting
    }

    /// `[batch]` of (rows, keys before the first row, 0, 0): the present level, as the append and a
    /// [`StepBuffer`](crate::ops::StepBuffer) have it.
    pub fn sequences(&self) -> &Buffer {
        &self.sequences
    }

    /// Token of each node of the present level, `[batch, width]` of u32.
    pub fn tokens(&self) -> BufferView<'_> {
        self.view(0)
    }

    /// Depth of each node of the present level less the number of the first of them, wrapping: with
    /// [`sequences`](Self::sequences) the append gives every row its position and its node's slot.
    pub fn depths(&self) -> BufferView<'_> {
        self.view(1)
    }

    /// Row of each node's parent in the level before, `[batch, width]` of u32.
    pub fn parent_rows(&self) -> BufferView<'_> {
        self.view(2)
    }

    /// Records the beginning: the root alone is the present level.
    pub fn encode_begin(&self, pass: &mut ComputePass<'_>) {
        self.begin.encode(pass, [self.shape.batch, 1, 1]);
    }

    /// Records the choice from the logits of level `level`, counted from 0; nothing past the depth.
    pub fn encode_level(&self, pass: &mut ComputePass<'_>, level: u32) {
        if let Some((top, expand)) = self.levels.get(level as usize) {
            top.encode(pass);
            expand.encode(pass, [self.shape.batch, 1, 1]);
        }
    }

    /// Records the finished tree and its number of nodes.
    pub fn encode_finish(&self, pass: &mut ComputePass<'_>) {
        self.finish.encode(pass, [self.shape.batch, 1, 1]);
    }
}
