//! Trees of a fixed shape, filled on the GPU: Medusa's, and chains of independent heads.

use wgpu::{Buffer, ComputePass};

use super::build_error::{check_size, check_view};
use super::on_gpu::{MAX_BUILT_NODES, room};
use super::{TokenMap, TopK, TopKShape, TreeBuildError};
use crate::gpu::{Binding, BufferView, Gpu, Kernel, shader, shared_struct};
use crate::ops::Dispatch;
use crate::tree::{DraftTree, NONE, blob_words};

const LANES: u32 = 64;

shared_struct! {
    /// Parameters shared with `shaders/tree/fixed.wgsl`.
    pub(crate) struct FixedParams {
        nodes: u32,
        rows: u32,
        k: u32,
        tree_stride: u32,
        tree_words: u32,
    }
}

pub(super) fn kernel(room: u32) -> Kernel {
    use Binding::{Read, Uniform, Write};
    Kernel::new(
        format!("tree/fixed/n{room}"),
        [LANES, 1, 1],
        FixedParams::LAYOUT,
        &[Uniform, Read, Write, Read, Write],
    )
    .constant("MAX_NODES", room)
    .source(shader!("tree/fixed.wgsl"))
    .source(shader!("tree/link.wgsl"))
    .workgroup_bytes(u64::from(room) * 16 + 4)
}

/// The buffers of a tree of a fixed shape.
#[derive(Clone, Copy, Debug)]
pub struct FixedTreeIo<'a> {
    /// Logits of the heads, `[batch, head, vocabulary]` of f32.
    pub logits: BufferView<'a>,
    /// `[batch]` blobs of `tree_stride` nodes; the first word of each, the root's token, is kept.
    pub tree: BufferView<'a>,
    /// `[batch]` of four u32s: the first becomes the number of nodes.
    pub lengths: BufferView<'a>,
    /// The shortened vocabulary of the heads, if they have one.
    pub map: Option<&'a TokenMap>,
}

/// A tree of a fixed shape whose nodes take the likeliest tokens of Medusa heads (Cai et al. 2024, section
/// 2.1.2), bound to its buffers: on the GPU what [`DraftTree::from_paths`] is on the CPU. A node whose head has too
/// few numbers is left out with all below it.
///
/// ```
/// use sunfleck::tree::{DraftTree, DrawKind, FixedTree, FixedTreeIo};
/// use sunfleck::{gpu::Gpu, wgpu};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// # let instance = wgpu::Instance::default();
/// # let adapter = instance.request_adapter(&Default::default()).await?;
/// # let (device, queue) = adapter.request_device(&Default::default()).await?;
/// let gpu = Gpu::new(&device, &queue);
/// // The first head's two likeliest tokens, and after the likelier one the second head's likeliest.
/// let paths: [&[usize]; 3] = [&[0], &[1], &[0, 0]];
/// let logits = [[0.0f32, 3.0, 0.0, 2.0], [5.0, 0.0, 0.0, 0.0]]; // [head, vocabulary]
/// let logits = gpu.storage_with("logits", logits.as_flattened())?;
/// let blob = gpu.storage_with("tree", &DraftTree::root_only(2).blob(4)?)?;
/// let lengths = gpu.storage_with("lengths", &[1u32, 17, 0, 0])?;
/// let fixed = FixedTree::new(&gpu, 1, &paths, 2, 4, 4, &FixedTreeIo {
///     logits: (&logits).into(),
///     tree: (&blob).into(),
///     lengths: (&lengths).into(),
///     map: None,
/// }).await?;
/// let mut encoder = device.create_command_encoder(&Default::default());
/// fixed.encode(&mut encoder.begin_compute_pass(&Default::default()));
/// queue.submit([encoder.finish()]);
///
/// let tree = DraftTree::from_blob(&gpu.read_buffer(&blob).await?, 4, DrawKind::TopK)?;
/// assert_eq!(tree.to_text(|token| token.to_string()), "2\n├─ 1\n│  └─ 0\n└─ 3\n");
/// # Ok(())
/// # }
/// # pollster::block_on(example()).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct FixedTree {
    top: TopK,
    fill: Dispatch,
    batch: u32,
    places: Buffer, // [node]: parent, head, rank, unused
    uniform: Buffer,
    params: FixedParams,
    room: u32, // nodes that `places` has room for
}

/// What `fixed.wgsl` knows of each node of the shape that `paths` over `heads` heads have: parent, head and rank.
fn places(
    paths: &[impl AsRef<[usize]>],
    heads: u32,
    k: u32,
) -> Result<Vec<[u32; 4]>, TreeBuildError> {
    // The rank stands for the token: a tree of ranks.
    let ranks: Vec<Vec<u32>> = vec![(0..k).collect(); heads as usize];
    let shape = DraftTree::from_paths(0, paths, &ranks)?;
    let place = |node: usize| match shape.parents()[node] {
        NONE => [0; 4],
        parent => [parent, shape.depths()[node] - 1, shape.tokens()[node], 0],
    };
    Ok((0..shape.len()).map(place).collect())
}

impl FixedTree {
    /// Compiles, allocates and binds for `heads` heads over `vocabulary` logits; `paths` as in
    /// [`DraftTree::from_paths`].
    ///
    /// # Errors
    /// [`TreeBuildError::Tree`] for paths that are no tree or need more heads; [`TreeBuildError::Size`],
    /// [`TreeBuildError::ViewTooSmall`], and the errors of the device.
    pub async fn new(
        gpu: &Gpu,
        batch: u32,
        paths: &[impl AsRef<[usize]>],
        heads: u32,
        vocabulary: u32,
        tree_stride: u32,
        io: &FixedTreeIo<'_>,
    ) -> Result<Self, TreeBuildError> {
        let is = |name, needed, given: u64, holds| check_size(name, needed, given, holds);
        is(
            "batch",
            "from 1 to 4096",
            batch.into(),
            (1..=4096).contains(&batch),
        )?;
        is(
            "heads",
            "from 1 to 64",
            heads.into(),
            (1..=64).contains(&heads),
        )?;
        let nodes = paths.len() as u64 + 1;
        is(
            "paths and root",
            "at most 512",
            nodes,
            nodes <= u64::from(MAX_BUILT_NODES),
        )?;
        let stride = u64::from(tree_stride);
        let strides = nodes..=crate::tree::MAX_NODES as u64;
        is(
            "tree_stride",
            "from the number of nodes to 4096",
            stride,
            strides.contains(&stride),
        )?;
        let ranks = paths.iter().flat_map(|path| path.as_ref()).max();
        let k = ranks.map_or(1, |rank| rank.saturating_add(1)) as u64;
        let most = super::MAX_TOP_K.min(vocabulary.max(1));
        is(
            "highest rank and 1",
            "at most 32 and the vocabulary",
            k,
            k <= u64::from(most),
        )?;
        let k = k as u32;
        let places = places(paths, heads, k)?;
        let words = blob_words(tree_stride as usize) as u64;
        check_view("tree", io.tree.size, u64::from(batch) * words * 4)?;
        check_view("lengths", io.lengths.size, u64::from(batch) * 16)?;
        let top_shape = TopKShape {
            batch,
            ..TopKShape::new(vocabulary, k, heads)
        };
        let top = TopK::new(gpu, &top_shape, io.logits, io.map).await?;
        let places = gpu.storage_with("shape of a tree", &places)?;
        let pipeline = gpu.pipeline(&kernel(room(nodes as u32))).await?;
        let params = FixedParams {
            nodes: nodes as u32,
            rows: heads,
            k,
            tree_stride,
            tree_words: words as u32,
        };
        let room = nodes as u32;
        let uniform = gpu.uniform(&pipeline.name, &params);
        let arguments = gpu.bind(
            &pipeline,
            &[
                ("params", BufferView::whole(&uniform)),
                ("shape", BufferView::whole(&places)),
                ("tree", io.tree),
                ("candidates", BufferView::whole(top.candidates())),
                ("lengths", io.lengths),
            ],
        )?;
        Ok(Self {
            top,
            fill: Dispatch::new(pipeline, arguments),
            batch,
            places,
            uniform,
            params,
            room,
        })
    }

    /// Nodes of the shape, the root included.
    pub fn nodes(&self) -> u32 {
        self.params.nodes
    }

    /// Gives the trees another shape, from the next submission on. It has at most as many nodes as the first one
    /// and no higher ranks.
    ///
    /// # Errors
    /// [`TreeBuildError::Tree`] for paths that are no tree, need more heads or have a higher rank, and
    /// [`TreeBuildError::Size`] for too many; the shape stays as it was.
    pub fn set_paths(
        &mut self,
        gpu: &Gpu,
        paths: &[impl AsRef<[usize]>],
    ) -> Result<(), TreeBuildError> {
        let nodes = paths.len() as u64 + 1;
        check_size(
            "paths and root",
            "at most those of the first shape",
            nodes,
            nodes <= u64::from(self.room),
        )?;
        let places = places(paths, self.params.rows, self.params.k)?;
        self.params.nodes = nodes as u32;
        let queue = gpu.queue();
        queue.write_buffer(&self.places, 0, bytemuck::cast_slice(&places));
        queue.write_buffer(&self.uniform, 0, bytemuck::bytes_of(&self.params));
        Ok(())
    }

    /// The candidates, `[batch, head, k]` of (u32 token, f32 log-probability).
    pub fn candidates(&self) -> &Buffer {
        self.top.candidates()
    }

    /// Records the search for candidates and the tree; allocates nothing.
    pub fn encode(&self, pass: &mut ComputePass<'_>) {
        self.top.encode(pass);
        self.fill.encode(pass, [self.batch, 1, 1]);
    }
}
