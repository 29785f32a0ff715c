//! The likeliest tokens where each kept token was chosen, with their log-probabilities.

use std::sync::Arc;

use wgpu::{Buffer, ComputePass};

use super::kernels::logits;
use super::{VerifyError, VerifyProblem};
use crate::attention::Element;
use crate::gpu::{AdapterClass, Binding, BufferView, Gpu, Kernel, Pipeline, shader, shared_struct};
use crate::ops::Dispatch;

/// Most tokens of a list.
pub const MAX_TOP_LOG_PROBABILITIES: u32 = 32;

/// Logits of a block.
const BLOCK: u32 = 2048;

/// Invocations that choose among the blocks of a row: what they list for the largest vocabulary fits.
const ROW_LANES: u32 = 256;

shared_struct! {
    /// Parameters shared with `shaders/verify/top_params.wgsl`.
    pub(crate) struct TopParams {
        vocabulary: u32,
        row_stride: u32,
        max_nodes: u32,
        outcome_words: u32,
        top: u32,
        blocks: u32,
        first_row: u32,
        part_rows: u32,
    }
}

/// Bytes of `tree/top_k_list.wgsl` and one word more.
fn list_bytes(lanes: u32, list: u32) -> u64 {
    u64::from(lanes) * 12 + u64::from(list) * 8 + 4 + 16 + 4
}

pub(super) fn blocks_kernel(element: Element, class: AdapterClass) -> Kernel {
    // A workgroup of a CPU is as dear as its invocations are many; a GPU hides loads with them.
    let lanes = match class {
        AdapterClass::Software => 64,
        _ => 256,
    };
    let list = MAX_TOP_LOG_PROBABILITIES * (BLOCK / lanes);
    Kernel::new(
        format!("verify/top/{}/l{lanes}", element.name()),
        [lanes, 1, 1],
        TopParams::LAYOUT,
        &[
            Binding::Uniform,
            Binding::Read,
            Binding::Read,
            Binding::Write,
        ],
    )
    .constant("BLOCK", BLOCK)
    .constant("LIST", list)
    .source(shader!("tree/order.wgsl"))
    .source(shader!("verify/top_params.wgsl"))
    .source(shader!("tree/top_k_list.wgsl"))
    .source(logits(element))
    .source(shader!("verify/top.wgsl"))
    .workgroup_bytes(list_bytes(lanes, list))
}

pub(super) fn rows_kernel() -> Kernel {
    let blocks = super::MAX_VOCABULARY / BLOCK;
    let most = MAX_TOP_LOG_PROBABILITIES;
    let list = most * (blocks * most).div_ceil(ROW_LANES);
    Kernel::new(
        "verify/top_rows",
        [ROW_LANES, 1, 1],
        TopParams::LAYOUT,
        &[Binding::Uniform, Binding::Write, Binding::Read],
    )
    .constant("LIST", list)
    .source(shader!("tree/order.wgsl"))
    .source(shader!("verify/top_params.wgsl"))
    .source(shader!("tree/top_k_list.wgsl"))
    .source(shader!("verify/top_rows.wgsl"))
    .workgroup_bytes(list_bytes(ROW_LANES, list))
}

/// The compiled kernels of a problem that asks for lists.
#[derive(Clone, Debug)]
pub(super) struct PreparedTop {
    blocks: Arc<Pipeline>,
    rows: Arc<Pipeline>,
}

/// The lists of all requests, bound.
#[derive(Clone, Debug)]
pub(super) struct Top {
    /// One a part of the rows.
    blocks: Vec<Dispatch>,
    rows: Dispatch,
    groups: [u32; 3],
}

fn params(problem: &VerifyProblem, first: u64, count: u64) -> TopParams {
    TopParams {
        vocabulary: problem.vocabulary,
        row_stride: problem.row_stride,
        max_nodes: problem.max_nodes,
        outcome_words: problem.outcome_words() as u32,
        top: problem.top_log_probabilities,
        blocks: problem.vocabulary.div_ceil(BLOCK),
        first_row: first as u32,
        part_rows: count as u32,
    }
}

/// Bytes of what the blocks list.
pub(super) fn block_bytes(problem: &VerifyProblem) -> u64 {
    let blocks = u64::from(problem.vocabulary.div_ceil(BLOCK));
    problem.rows() * blocks * (u64::from(problem.top_log_probabilities) + 1) * 8
}

impl PreparedTop {
    pub async fn new(gpu: &Gpu, problem: &VerifyProblem) -> Result<Self, VerifyError> {
        let blocks = blocks_kernel(problem.element, gpu.capabilities().class);
        Ok(Self {
            blocks: gpu.pipeline(&blocks).await?,
            rows: gpu.pipeline(&rows_kernel()).await?,
        })
    }

    /// Binds; `part_rows` rows of logits at a time.
    pub fn bind(
        &self,
        gpu: &Gpu,
        problem: &VerifyProblem,
        part_rows: u64,
        logits: BufferView<'_>,
        outcome: &Buffer,
    ) -> Result<Top, VerifyError> {
        let listed = gpu.storage("verify top", block_bytes(problem))?;
        let mut blocks = Vec::new();
        for first in (0..problem.rows()).step_by(part_rows as usize) {
            let count = part_rows.min(problem.rows() - first);
            let uniform = gpu.uniform("verify top", &params(problem, first, count));
            let row = problem.row_bytes();
            let part = BufferView::range(logits.buffer, logits.offset + first * row, count * row);
            let arguments = gpu.bind(
                &self.blocks,
                &[
                    ("params", BufferView::whole(&uniform)),
                    ("outcome", BufferView::whole(outcome)),
                    ("logits", part),
                    ("blocks", BufferView::whole(&listed)),
                ],
            )?;
            blocks.push(Dispatch::new(self.blocks.clone(), arguments));
        }
        let uniform = gpu.uniform("verify top", &params(problem, 0, problem.rows()));
        let arguments = gpu.bind(
            &self.rows,
            &[
                ("params", BufferView::whole(&uniform)),
                ("outcome", BufferView::whole(outcome)),
                ("blocks", BufferView::whole(&listed)),
            ],
        )?;
        Ok(Top {
            blocks,
            rows: Dispatch::new(self.rows.clone(), arguments),
            groups: [
                problem.vocabulary.div_ceil(BLOCK),
                problem.max_nodes,
                problem.batch,
            ],
        })
    }
}

impl Top {
    /// Records the search, after the walk.
    pub fn encode(&self, pass: &mut ComputePass<'_>) {
        let [blocks, nodes, batch] = self.groups;
        for part in &self.blocks {
            part.encode(pass, [blocks, nodes, batch]);
        }
        self.rows.encode(pass, [nodes, batch, 1]);
    }
}
