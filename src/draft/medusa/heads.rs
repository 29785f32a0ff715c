//! The kernels of Medusa heads, bound to the target's features and its tree.

use wgpu::{Buffer, CommandEncoder};

use crate::{
    draft::{
        DrafterLoadError, kernels::Gather, residual::ResidualBlocks, vocabulary::DraftHead,
        weights::WeightFile,
    },
    gpu::{BufferView, Gpu},
    model::{Decoder, Gguf, WeightLoader, WeightSource, parts::stride},
    ops::{Epilogue, Linear, LinearIo, RmsNorm, RmsNormIo, Rows, StepBuffer},
    tree::{FixedTree, FixedTreeIo, TreeBuildError},
};

/// Most heads of a file that are used.
pub(super) const MAX_HEADS: usize = 16;

#[derive(Debug)]
pub(super) struct Heads {
    index: Buffer, // [1]: row of the target's features
    gather: Gather,
    norm: RmsNorm,
    blocks: ResidualBlocks,
    head: Linear,
    tree: FixedTree,
}

impl Heads {
    /// Loads and binds; trees have at most the nodes of `paths`.
    pub async fn new<S: WeightSource>(
        gpu: &Gpu,
        decoder: &Decoder,
        gguf: &Gguf,
        source: &mut S,
        file: &WeightFile<'_>,
        vocabulary: &[u32],
        paths: impl Fn(usize) -> Vec<Vec<usize>>,
    ) -> Result<Self, DrafterLoadError> {
        let h = decoder.hyperparameters();
        let width = h.embedding_length;
        let padded = stride(width);
        let view = BufferView::whole;

        let names: Vec<_> = (0..MAX_HEADS)
            .map(|head| format!("medusa.{head}"))
            .take_while(|name| file.has(&format!("{name}.linear.weight")))
            .collect();
        if names.is_empty() {
            let tensor = "medusa.0.linear.weight".to_owned();
            return Err(DrafterLoadError::Missing { tensor });
        }
        let feature = gpu.storage("draft feature", u64::from(padded) * 4)?;
        let normed = gpu.storage("draft feature, normed", u64::from(padded) * 4)?;
        let blocks = ResidualBlocks::load(gpu, file, &names, width, view(&normed)).await?;
        let norm_weight = WeightLoader::new(gpu, gguf, source, &mut |_, _| ())
            .vector("output_norm.weight")
            .await?;
        let vocabulary = DraftHead::load(gpu, decoder, gguf, source, vocabulary).await?;

        let heads = blocks.heads();
        let ids = vocabulary.ids();
        let one_row = StepBuffer::new(gpu, 1, 0)?;
        let a_row_a_head = StepBuffer::new(gpu, heads, 0)?;
        let logits = gpu.storage("draft logits", u64::from(heads) * u64::from(ids) * 4)?;
        let io = LinearIo {
            x: view(blocks.results()),
            x_stride: padded,
            y: view(&logits),
            y_stride: ids,
            y_offset: 0,
        };
        let head = Linear::new(
            gpu,
            &vocabulary.matrix,
            Epilogue::Assign,
            &a_row_a_head,
            &io,
        )
        .await?;
        let index = gpu.storage("kept row", 4)?;
        let gather = Gather::new(
            gpu,
            &one_row,
            view(&index),
            view(decoder.features()),
            view(&feature),
            padded,
        )
        .await?;
        let norm_io = RmsNormIo {
            x: view(&feature),
            weight: view(&norm_weight),
            y: view(&normed),
            width,
            stride: padded,
        };
        let norm = RmsNorm::new(gpu, &one_row, &norm_io, h.rms_epsilon, Rows::All).await?;
        let tree_io = FixedTreeIo {
            logits: view(&logits),
            tree: view(decoder.tree()),
            lengths: decoder.step().view(),
            map: Some(&vocabulary.map),
        };
        let (paths, stride) = (paths(names.len()), decoder.max_nodes());
        let tree = FixedTree::new(gpu, 1, &paths, heads, ids, stride, &tree_io).await?;
        Ok(Self {
            index,
            gather,
            norm,
            blocks,
            head,
            tree,
        })
    }

    /// Number of heads: drafted tokens on the longest path.
    pub fn count(&self) -> usize {
        self.blocks.heads() as usize
    }

    /// Says which nodes the trees have from now on.
    pub fn set_paths(&mut self, gpu: &Gpu, paths: &[Vec<usize>]) -> Result<(), TreeBuildError> {
        self.tree.set_paths(gpu, paths)
    }

    /// Records a draft from the feature in `row` of the target's last pass.
    pub fn record(&self, gpu: &Gpu, encoder: &mut CommandEncoder, row: u32) {
        gpu.queue()
            .write_buffer(&self.index, 0, bytemuck::bytes_of(&row));
        let mut pass = encoder.begin_compute_pass(&Default::default());
        self.gather.encode(&mut pass, 1);
        self.norm.encode(&mut pass, 1);
        self.blocks.encode(&mut pass);
        self.head.encode(&mut pass, self.blocks.heads());
        self.tree.encode(&mut pass);
    }
}
