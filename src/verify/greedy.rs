//! Greedy verification: the output equals plain decoding.

use wgpu::{Buffer, ComputePass};

use super::Outcome;
use crate::{
    gpu::{Binding, BufferView, Gpu, GpuError, Kernel, shader, shared_struct},
    ops::{Argmax, Dispatch, StepBuffer},
    tree::blob_words,
};

const GREEDY: &[Binding] = &[
    Binding::Uniform,
    Binding::Read,
    Binding::Read,
    Binding::Read,
    Binding::Write,
];
const FINISH: &[Binding] = &[Binding::Uniform, Binding::Write, Binding::Read];

shared_struct! {
    /// Parameters shared with `shaders/verify/greedy.wgsl`.
    pub(crate) struct GreedyParams {
        max_nodes: u32,
        blocks: u32,
        vocabulary: u32,
        candidate_rows: u32,
    }
}

shared_struct! {
    /// Parameters shared with `shaders/verify/finish.wgsl`.
    pub(crate) struct FinishParams {
        all_rows: u32,
    }
}

shared_struct! {
    /// Parameters shared with `shaders/verify/greedy_check.wgsl`.
    pub(crate) struct GreedyCheckParams {
        vocabulary: u32,
        max_nodes: u32,
        tree_words: u32,
        tree_stride: u32,
    }
}

const LANES: u32 = 64;

pub(crate) fn kernel(max_nodes: u32) -> Kernel {
    Kernel::new(
        format!("verify/greedy/n{max_nodes}"),
        [LANES, 1, 1],
        GreedyParams::LAYOUT,
        GREEDY,
    )
    .constant("MAX_NODES", max_nodes)
    .source(shader!("verify/greedy.wgsl"))
    .workgroup_bytes(u64::from(max_nodes) * 4)
}

/// Invocations for the largest tree: see `kernels::check`.
pub(crate) fn check_kernel() -> Kernel {
    use Binding::{Read, Uniform, Write};
    Kernel::new(
        "verify/greedy_check",
        [256, 1, 1],
        GreedyCheckParams::LAYOUT,
        &[Uniform, Read, Read, Write],
    )
    .source(shader!("verify/blob.wgsl"))
    .source(shader!("verify/links.wgsl"))
    .source(shader!("verify/greedy_check.wgsl"))
    .workgroup_bytes(128 * 4 + 4)
}

pub(crate) fn finish_kernel() -> Kernel {
    Kernel::new("verify/finish", [1, 1, 1], FinishParams::LAYOUT, FINISH)
        .source(shader!("verify/finish.wgsl"))
}

/// The walk down the tree and the end of a step, bound to their buffers.
#[derive(Clone, Debug)]
pub struct GreedyVerifier {
    tree: Dispatch, // candidates for every node
    check: Dispatch,
    prompt: Dispatch, // candidates for one row: the last of a prompt
    finish_tree: Dispatch,
    finish_prompt: Dispatch,
    outcome: Buffer,
}

impl GreedyVerifier {
    /// Compiles and binds: `tree` is a blob of [`DraftTree`](crate::tree::DraftTree) with a
    /// stride of `max_nodes`, `candidates` the output of [`Argmax`] over `vocabulary` logits for
    /// at most `candidate_rows` nodes.
    ///
    /// # Errors
    /// [`GpuError::LimitExceeded`] when `max_nodes` words do not fit workgroup memory,
    /// [`GpuError::Compile`], and the errors of a bad view.
    pub async fn new(
        gpu: &Gpu,
        step: &StepBuffer,
        tree: BufferView<'_>,
        candidates: BufferView<'_>,
        max_nodes: u32,
        candidate_rows: u32,
        vocabulary: u32,
    ) -> Result<Self, GpuError> {
        let outcome = gpu.storage("outcome", Outcome::words(max_nodes) as u64 * 4)?;
        let greedy = gpu.pipeline(&kernel(max_nodes)).await?;
        let walk = |candidate_rows: u32| -> Result<Dispatch, GpuError> {
            let params = GreedyParams {
                max_nodes,
                blocks: Argmax::blocks(vocabulary),
                vocabulary,
                candidate_rows,
            };
            let uniform = gpu.uniform(&greedy.name, &params);
            let arguments = gpu.bind(
                &greedy,
                &[
                    ("params", BufferView::whole(&uniform)),
                    ("step", step.view()),
                    ("tree", tree),
                    ("candidates", candidates),
                    ("outcome", BufferView::whole(&outcome)),
                ],
            )?;
            Ok(Dispatch::new(greedy.clone(), arguments))
        };
        let check = gpu.pipeline(&check_kernel()).await?;
        let params = GreedyCheckParams {
            vocabulary,
            max_nodes,
            tree_words: blob_words(max_nodes as usize) as u32,
            tree_stride: max_nodes,
        };
        let uniform = gpu.uniform(&check.name, &params);
        let arguments = gpu.bind(
            &check,
            &[
                ("params", BufferView::whole(&uniform)),
                ("step", step.view()),
                ("tree", tree),
                ("outcome", BufferView::whole(&outcome)),
            ],
        )?;
        let finish = gpu.pipeline(&finish_kernel()).await?;
        let end = |all_rows: u32| -> Result<Dispatch, GpuError> {
            let uniform = gpu.uniform(&finish.name, &FinishParams { all_rows });
            let arguments = gpu.bind(
                &finish,
                &[
                    ("params", BufferView::whole(&uniform)),
                    ("step", step.view()),
                    ("outcome", BufferView::whole(&outcome)),
                ],
            )?;
            Ok(Dispatch::new(finish.clone(), arguments))
        };
        Ok(Self {
            tree: walk(candidate_rows)?,
            check: Dispatch::new(check, arguments),
            prompt: walk(1)?,
            finish_tree: end(0)?,
            finish_prompt: end(1)?,
            outcome: outcome.clone(),
        })
    }

    /// The outcome buffer: the words that [`Outcome::from_words`] reads.
    pub fn outcome(&self) -> &Buffer {
        &self.outcome
    }

    /// Records the walk over a draft tree whose nodes all have candidates. The blob is checked whole: damage off
    /// the walked path has a flag in the outcome too.
    pub fn encode(&self, pass: &mut ComputePass<'_>) {
        self.tree.encode(pass, [1, 1, 1]);
        self.check.encode(pass, [1, 1, 1]);
    }

    /// Records the end of a verification step: root and accepted nodes are committed.
    pub fn encode_finish(&self, pass: &mut ComputePass<'_>) {
        self.finish_tree.encode(pass, [1, 1, 1]);
    }

    /// Records the choice of the token after a prompt, from the candidates in row 0.
    pub fn encode_prompt(&self, pass: &mut ComputePass<'_>) {
        self.prompt.encode(pass, [1, 1, 1]);
    }

    /// Records the end of a prompt step: all its rows are committed.
    pub fn encode_finish_prompt(&self, pass: &mut ComputePass<'_>) {
        self.finish_prompt.encode(pass, [1, 1, 1]);
    }
}
