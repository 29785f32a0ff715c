//! The dispatches over the rows that one binding takes.

use wgpu::{Buffer, ComputePass};

use super::kernels::{BINS, BLOCK, MAX_CANDIDATES, SEARCH_WORDS, STAT_WORDS, VerifyParams};
use super::windows::windows;
use super::{PreparedVerify, VerifyError, VerifyIo, VerifyProblem};
use crate::gpu::{BufferView, Gpu, Pipeline};
use crate::ops::Dispatch;
use crate::tree;

use std::sync::Arc;

/// The dispatches over one part of the rows.
#[derive(Clone, Debug)]
pub(super) struct Part {
    mark: Option<Dispatch>,
    rows: [Option<Dispatch>; 2],
    merge: Dispatch,
    /// The kernels of cut-offs in their order, of target and draft.
    cuts: [Vec<Dispatch>; 2],
    /// One a window of children.
    children: Vec<Dispatch>,
    joint: Vec<Dispatch>,
    rest: Dispatch,
    sample: Dispatch,
    top: Option<Dispatch>,
    count: u32,
    blocks: u32,
    kinds: u32,
    batch: u32,
}

/// Buffers that all parts share.
pub(super) struct Shared<'a> {
    pub requests: &'a Buffer,
    pub nodes: &'a Buffer,
    pub outcome: &'a Buffer,
    /// Bound where a problem has no use for an argument; kernels then read none of it.
    pub unused: &'a Buffer,
}

/// Parameters for `count` rows from `first` on, and the children of one window.
pub(super) fn params(
    problem: &VerifyProblem,
    first: u64,
    count: u64,
    window: (u32, u32),
) -> VerifyParams {
    let layout = Layout::of(problem, count);
    VerifyParams {
        vocabulary: problem.vocabulary,
        row_stride: problem.row_stride,
        max_nodes: problem.max_nodes,
        tree_words: tree::blob_words(problem.tree_stride as usize) as u32,
        first_row: first as u32,
        draft_rows: problem.draft_rows,
        mask_words: problem.mask_words(),
        mask_rows: problem.mask_rows(),
        outcome_words: problem.outcome_words() as u32,
        part_rows: count as u32,
        tree_stride: problem.tree_stride,
        blocks: problem.vocabulary.div_ceil(BLOCK),
        kinds: kinds(problem),
        marks_at: layout.marks as u32,
        first_child: window.0,
        end_child: window.1,
        bins_at: layout.bins as u32,
        searches_at: layout.searches as u32,
        lists_at: layout.lists as u32,
        candidates: candidates(problem),
        top: problem.top_log_probabilities,
    }
}

/// Rows of statistics a node.
fn kinds(problem: &VerifyProblem) -> u32 {
    1 + u32::from(problem.draft_rows > 0)
}

/// Candidates of a cut-off that a list has room for.
fn candidates(problem: &VerifyProblem) -> u32 {
    MAX_CANDIDATES.min(problem.vocabulary)
}

/// Where the arrays of scratch begin for some rows, in words: statistics at 0, then these.
struct Layout {
    marks: u64,
    bins: u64,
    searches: u64,
    lists: u64,
    end: u64,
}

impl Layout {
    fn of(problem: &VerifyProblem, rows: u64) -> Self {
        let of_kinds = rows * u64::from(kinds(problem));
        let blocks = of_kinds * u64::from(problem.vocabulary.div_ceil(BLOCK));
        let marked = match problem.mask_rows() {
            0 => 0,
            _ => rows,
        };
        let marks = blocks * u64::from(STAT_WORDS);
        let bins = marks + marked * 2 * u64::from(problem.mask_words());
        let searches = bins + blocks * u64::from(BINS);
        let lists = searches + of_kinds * u64::from(SEARCH_WORDS);
        let end = lists + of_kinds * 2 * u64::from(candidates(problem));
        Self {
            marks,
            bins,
            searches,
            lists,
            end,
        }
    }
}

/// Words of scratch for `rows` rows.
pub(super) fn scratch_words(problem: &VerifyProblem, rows: u64) -> u64 {
    Layout::of(problem, rows).end
}

impl Part {
    /// Binds the kernels for `count` rows from `first` on.
    pub fn bind(
        prepared: &PreparedVerify,
        io: &VerifyIo<'_>,
        shared: &Shared<'_>,
        first: u64,
        count: u64,
    ) -> Result<Self, VerifyError> {
        let (gpu, problem) = (prepared.plan.gpu(), prepared.plan.problem());
        let windows = windows(problem, prepared.plan.form().child_lanes());
        let scratch = gpu.storage("verify scratch", scratch_words(problem, count) * 4)?;
        let uniforms: Vec<Buffer> = windows
            .iter()
            .map(|&window| gpu.uniform("verify", &params(problem, first, count, window)))
            .collect();
        let row = problem.row_bytes();
        let offset = io.logits.offset + first * row;
        let logits = BufferView::range(io.logits.buffer, offset, count * row);
        let unused = BufferView::whole(shared.unused);
        let common = |uniform| {
            [
                ("params", BufferView::whole(uniform)),
                ("requests", BufferView::whole(shared.requests)),
                ("tree", io.tree),
                ("nodes", BufferView::whole(shared.nodes)),
                ("scratch", BufferView::whole(&scratch)),
                ("logits", logits),
                ("draft", io.draft.unwrap_or(unused)),
            ]
        };
        let uniform = &uniforms[0];
        let one = |pipeline: &Arc<Pipeline>| dispatch(gpu, pipeline, &common(uniform));
        let maybe = |pipeline: &Option<Arc<Pipeline>>| pipeline.as_ref().map(one).transpose();
        let all = |pipelines: &[Arc<Pipeline>]| {
            let bound = pipelines.iter().map(one);
            bound.collect::<Result<Vec<_>, _>>()
        };
        let each = |pipeline: &Arc<Pipeline>| {
            let bound = uniforms
                .iter()
                .map(|uniform| dispatch(gpu, pipeline, &common(uniform)));
            bound.collect::<Result<Vec<_>, _>>()
        };
        let mut with_outcome = common(uniform).to_vec();
        with_outcome.push(("outcome", BufferView::whole(shared.outcome)));
        let mark = prepared.mark.as_ref().map(|mark| {
            let views = [
                ("params", BufferView::whole(uniform)),
                ("requests", BufferView::whole(shared.requests)),
                ("tree", io.tree),
                ("masks", io.masks.unwrap_or(unused)),
                ("scratch", BufferView::whole(&scratch)),
            ];
            dispatch(gpu, mark, &views)
        });
        Ok(Self {
            mark: mark.transpose()?,
            rows: [Some(one(&prepared.rows)?), maybe(&prepared.draft_rows)?],
            merge: one(&prepared.merge)?,
            cuts: [all(&prepared.cuts)?, all(&prepared.draft_cuts)?],
            children: each(&prepared.children)?,
            joint: each(&prepared.joint)?,
            rest: one(&prepared.rest)?,
            sample: dispatch(gpu, &prepared.sample, &with_outcome)?,
            top: (prepared.top_processed.as_ref())
                .map(|top| dispatch(gpu, top, &with_outcome))
                .transpose()?,
            count: count as u32,
            blocks: problem.vocabulary.div_ceil(BLOCK),
            kinds: kinds(problem),
            batch: problem.batch,
        })
    }

    /// Records the statistics of the rows, with or without cut-offs, and the tests of their children.
    pub fn encode_rows(&self, pass: &mut ComputePass<'_>, with_cuts: bool) {
        if let Some(mark) = &self.mark {
            mark.encode(pass, [self.count, 1, 1]);
        }
        for rows in self.rows.iter().flatten() {
            rows.encode(pass, [self.blocks, self.count, 1]);
        }
        self.merge.encode(pass, [self.count, self.kinds, 1]);
        if with_cuts {
            self.encode_cuts(pass);
        }
        for children in &self.children {
            children.encode(pass, [self.count, 1, 1]);
        }
    }

    fn encode_cuts(&self, pass: &mut ComputePass<'_>) {
        for cuts in &self.cuts {
            let groups = [
                [self.blocks, self.count, 1],
                [self.count, 1, 1],
                [self.blocks, self.count, 1],
                [self.count, 1, 1],
                [self.count, 1, 1],
            ];
            for (kernel, groups) in cuts.iter().zip(groups) {
                kernel.encode(pass, groups);
            }
        }
    }

    /// Records the tests that look at several tokens together, parts in order.
    pub fn encode_joint(&self, pass: &mut ComputePass<'_>) {
        for joint in &self.joint {
            joint.encode(pass, [self.batch, 1, 1]);
        }
    }

    /// Records, after the walk, the token after it and log-probabilities.
    pub fn encode_sample(&self, pass: &mut ComputePass<'_>) {
        self.rest.encode(pass, [self.blocks, self.count, 1]);
        self.sample.encode(pass, [self.batch, 1, 1]);
    }

    /// Records, after the lists of likely tokens, their log-probabilities after processing.
    pub fn encode_top(&self, pass: &mut ComputePass<'_>) {
        if let Some(top) = &self.top {
            top.encode(pass, [self.batch, 1, 1]);
        }
    }
}

fn dispatch(
    gpu: &Gpu,
    pipeline: &Arc<Pipeline>,
    views: &[(&'static str, BufferView<'_>)],
) -> Result<Dispatch, VerifyError> {
    Ok(Dispatch::new(pipeline.clone(), gpu.bind(pipeline, views)?))
}
