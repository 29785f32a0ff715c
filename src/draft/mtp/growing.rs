//! The module on the nodes of a tree that grows: level by level, each node on its parent's own feature.

use wgpu::{Buffer, CommandEncoder};

use super::module::Shared;
use crate::{
    attention::Mask,
    draft::{DrafterLoadError, kernels::Gather},
    gpu::BufferView,
    model::{
        StepKind,
        parts::{Activations, Layer, LayerWeights, Stack, linears, stride},
    },
    ops::{Epilogue, Linear, LinearIo, Matrix, RmsNorm, RmsNormIo, Rows, StepBuffer},
    tree::{DynamicTree, DynamicTreeShape, TreeBuildError},
};

/// What the tree's kernels are bound to beside the module's own.
pub(super) struct GrowingIo<'a> {
    pub stack: Stack<'a>,
    pub weights: &'a LayerWeights,
    pub output_weight: &'a Buffer,
    pub head: &'a Matrix,
    pub hidden: &'a Buffer, // [row, stride]
    pub activations: &'a Activations,
}

/// A dynamic tree and the layer that runs on its levels.
#[derive(Debug)]
pub(super) struct Growing {
    tree: DynamicTree,
    lengths: StepBuffer, // nodes of the finished tree, and the committed keys before the root
    outputs: Buffer,     // [row, stride]: features of the level before
    gather: Gather,
    layer: Layer,
    norm: RmsNorm,
    head: Vec<Linear>,
    row_bytes: u64,
}

/// The mask under which a level attends: its nodes are the last of the drafting tree.
pub(super) fn mask(shape: &DynamicTreeShape) -> Mask {
    Mask::TreeEnd {
        max_nodes: shape.drafting_nodes(),
    }
}

impl Growing {
    /// Binds a layer to the levels of `tree`.
    pub async fn new(
        tree: DynamicTree,
        lengths: StepBuffer,
        logits: &Buffer,
        io: &GrowingIo<'_>,
    ) -> Result<Self, DrafterLoadError> {
        let (gpu, h, step) = (io.stack.gpu, io.stack.h, io.stack.step);
        let width = h.embedding_length;
        let padded = stride(width);
        let view = BufferView::whole;
        let shape = *tree.shape();
        let row_bytes = u64::from(padded) * 4;
        let outputs = gpu.storage("features of a level", u64::from(shape.width) * row_bytes)?;
        let (x, y) = (view(&outputs), view(io.hidden));
        let gather = Gather::new(gpu, step, tree.parent_rows(), x, y, padded).await?;
        let layer = io.stack.layer(0, io.weights).await?;
        let norm_io = RmsNormIo {
            x: view(&io.activations.residual),
            weight: view(io.output_weight),
            y: view(&io.activations.normed),
            width,
            stride: padded,
        };
        let head_io = LinearIo {
            x: view(&io.activations.normed),
            x_stride: padded,
            y: view(logits),
            y_stride: shape.row_stride,
            y_offset: 0,
        };
        let matrix = std::slice::from_ref(io.head);
        Ok(Self {
            norm: RmsNorm::new(gpu, step, &norm_io, h.rms_epsilon, Rows::All).await?,
            head: linears(gpu, matrix, Epilogue::Assign, step, &head_io).await?,
            tree,
            lengths,
            outputs,
            gather,
            layer,
            row_bytes,
        })
    }

    /// The tree's shape.
    pub fn shape(&self) -> &DynamicTreeShape {
        self.tree.shape()
    }

    /// Records a tree of at most `nodes` nodes and `depth` levels. The module has just run on the committed positions,
    /// the last of which is row `last` and holds key `root` of its cache; its logits are row 0.
    pub fn record(
        &mut self,
        encoder: &mut CommandEncoder,
        module: &Shared<'_>,
        root: u32,
        last: u32,
        nodes: u32,
        depth: u32,
    ) -> Result<(), TreeBuildError> {
        self.tree.set_max_nodes(module.gpu, nodes)?;
        // The root's slot is that of the last committed position, which knows its token already.
        self.lengths.set_past(module.gpu, root);
        let shape = *self.tree.shape();
        let depth = depth.clamp(1, shape.depth);
        let size = self.row_bytes;
        let from = u64::from(last) * size;
        encoder.copy_buffer_to_buffer(module.output, from, &self.outputs, 0, size);
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            self.tree.encode_begin(&mut pass);
            self.tree.encode_level(&mut pass, 0);
        }
        for level in 1..depth {
            let rows = shape.rows(level);
            let tokens = self.tree.tokens();
            let (sequences, step) = (self.tree.sequences(), module.step.buffer());
            encoder.copy_buffer_to_buffer(sequences, 0, step, 0, StepBuffer::SIZE);
            let words = u64::from(rows) * 4;
            let (from, at) = (tokens.buffer, tokens.offset);
            encoder.copy_buffer_to_buffer(from, at, module.tokens, 0, words);
            {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                self.gather.encode(&mut pass, rows);
                module.encode_input(&mut pass, rows);
                let keys = root + shape.first_node(level) + rows;
                self.layer.encode(&mut pass, rows, keys, StepKind::Tree);
                self.norm.encode(&mut pass, rows);
                for linear in &self.head {
                    linear.encode_few(&mut pass, rows);
                }
                self.tree.encode_level(&mut pass, level);
            }
            let bytes = u64::from(rows) * size;
            encoder.copy_buffer_to_buffer(module.output, 0, &self.outputs, 0, bytes);
        }
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            self.tree.encode_finish(&mut pass);
        }
        let (count, target) = (self.lengths.buffer(), module.target.buffer());
        encoder.copy_buffer_to_buffer(count, 0, target, 0, 4);
        Ok(())
    }
}
