//! Chains whose tokens are drawn by chance from the drafter's own distribution.

use wgpu::{Buffer, CommandEncoder, ComputePass};

use crate::{
    gpu::{Binding, BufferView, Gpu, GpuError, Kernel, shader, shared_struct},
    model::Decoder,
    ops::{Dispatch, StepBuffer},
    tree::{DraftSampling, DrawKind, SampledTree, SampledTreeIo, SampledTreeShape, TreeBuildError},
};

/// Most tokens of a chain that is drawn by chance: each keeps a row of logits until it is verified.
pub const MAX_DRAWN: usize = 16;

shared_struct! {
    /// Parameters shared with `shaders/draft/spread.wgsl`.
    pub(crate) struct SpreadParams {
        vocabulary: u32,
        ids: u32,
    }
}

const LANES: u32 = 256;

pub(super) fn kernel() -> Kernel {
    let bindings = &[
        Binding::Uniform,
        Binding::Read,
        Binding::Read,
        Binding::Write,
    ];
    Kernel::new(
        "draft/spread",
        [LANES, 1, 1],
        SpreadParams::LAYOUT,
        bindings,
    )
    .source(shader!("draft/spread.wgsl"))
}

/// Draws the tokens of a chain, one after the other, into the target's tree, and keeps the logits that they were drawn from
/// for the verification ([`SampledTree`]).
#[derive(Clone, Debug)]
pub struct Drawing {
    tree: SampledTree,
    logits: Buffer,      // [row, vocabulary]
    lengths: StepBuffer, // of which the second word is the root's position
    row_bytes: u64,
}

impl Drawing {
    /// For chains of up to [`MAX_DRAWN`] tokens, and no more than a step of `decoder` verifies.
    ///
    /// # Errors
    /// Those of [`SampledTree::new`]; a decoder without drafts has none to draw.
    pub async fn new(gpu: &Gpu, decoder: &Decoder) -> Result<Self, TreeBuildError> {
        let vocabulary = decoder.hyperparameters().vocabulary;
        let depth = (decoder.options().max_draft).min(MAX_DRAWN as u32);
        let shape = SampledTreeShape {
            tree_stride: decoder.max_nodes(),
            max_top_k: crate::tree::MAX_TOP_K.min(vocabulary),
            ..SampledTreeShape::new(&vec![1; depth as usize], vocabulary, DrawKind::Iid)
        };
        let row_bytes = u64::from(vocabulary) * 4;
        let logits = gpu.storage("logits of drawn drafts", u64::from(depth) * row_bytes)?;
        let lengths = StepBuffer::new(gpu, 1, 0)?;
        let io = SampledTreeIo {
            logits: BufferView::whole(&logits),
            tree: BufferView::whole(decoder.tree()),
            lengths: lengths.view(),
        };
        Ok(Self {
            tree: SampledTree::new(gpu, &shape, &io).await?,
            logits,
            lengths,
            row_bytes,
        })
    }

    /// The most tokens of a chain.
    pub fn depth(&self) -> usize {
        self.tree.shape().children.len()
    }

    /// The logits that tokens were drawn from: `[token of the chain, vocabulary]` of f32.
    pub fn logits(&self) -> &Buffer {
        &self.logits
    }

    /// Says how the next chain is drawn: behind the token at `position`.
    pub(crate) fn set(
        &self,
        gpu: &Gpu,
        position: u32,
        mut sampling: DraftSampling,
    ) -> Result<(), super::DraftError> {
        sampling.top_k = sampling.top_k.min(self.tree.shape().max_top_k);
        self.lengths.set_past(gpu, position);
        Ok(self.tree.set_request(0, &sampling)?)
    }

    /// Records how token `index` of the chain, from 0 on and below [`depth`](Self::depth), is drawn from `logits`,
    /// `[vocabulary]` of f32: it becomes node `index + 1` of the target's tree.
    pub fn encode(&self, encoder: &mut CommandEncoder, index: usize, logits: &Buffer) {
        let at = index as u64 * self.row_bytes;
        encoder.copy_buffer_to_buffer(logits, 0, &self.logits, at, self.row_bytes);
        let mut pass = encoder.begin_compute_pass(&Default::default());
        self.tree.encode_level(&mut pass, index);
    }
}

/// A row of draft logits over all tokens, made of one over the ids of a draft vocabulary.
#[derive(Debug)]
pub(super) struct Spread {
    dispatch: Dispatch,
    row: Buffer, // [vocabulary]
    groups: u32,
}

impl Spread {
    /// Binds it to `logits`, `[id]`; `tokens` are those of the ids.
    pub async fn new(
        gpu: &Gpu,
        logits: BufferView<'_>,
        tokens: &[u32],
        vocabulary: u32,
    ) -> Result<Self, GpuError> {
        let mut id_of = vec![crate::tree::NONE; vocabulary as usize];
        for (id, token) in (0..).zip(tokens) {
            id_of[*token as usize] = id;
        }
        let id_of = gpu.storage_with("draft ids", &id_of)?;
        let row = gpu.storage("draft logits of all tokens", u64::from(vocabulary) * 4)?;
        let pipeline = gpu.pipeline(&kernel()).await?;
        let params = SpreadParams {
            vocabulary,
            ids: tokens.len() as u32,
        };
        let uniform = gpu.uniform(&pipeline.name, &params);
        let views = [
            ("params", BufferView::whole(&uniform)),
            ("logits", logits),
            ("id_of", BufferView::whole(&id_of)),
            ("spread", BufferView::whole(&row)),
        ];
        let arguments = gpu.bind(&pipeline, &views)?;
        Ok(Self {
            dispatch: Dispatch::new(pipeline, arguments),
            row,
            groups: vocabulary.div_ceil(LANES),
        })
    }

    /// The row, `[vocabulary]` of f32.
    pub fn row(&self) -> &Buffer {
        &self.row
    }

    pub fn encode(&self, pass: &mut ComputePass<'_>) {
        self.dispatch.encode(pass, [self.groups, 1, 1]);
    }
}
