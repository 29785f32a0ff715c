//! The dispatches over the rows that one binding takes.

use wgpu::{Buffer, ComputePass};

use super::kernels::{
    BINS, BLOCK, Form, LEAST_GROUP, MAX_CANDIDATES, SEARCH_WORDS, STAT_WORDS, TURN_CHILDREN,
    VerifyParams,
};
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
    rows: Dispatch,
    draft_rows: Option<Dispatch>,
    merge: Dispatch,
    /// The kernels of cut-offs in their order.
    cuts: Vec<Dispatch>,
    draft_cuts: Vec<Dispatch>,
    /// One a window of children.
    children: Vec<Dispatch>,
    /// The beginning; then in turns sums, and what they decide.
    joint: [Dispatch; 3],
    rest: Dispatch,
    sample: Dispatch,
    top: Option<Dispatch>,
    max_nodes: u32,
    form: Form,
    /// Turns of loops of a row's cut-off.
    cut_turns: u32,
    /// Workgroups of a row.
    blocks: u32,
    batch: u32,
}

/// Buffers that all parts share.
pub(super) struct Shared<'a> {
    pub requests: &'a Buffer,
    pub nodes: &'a Buffer,
    pub waves: &'a Buffer,
    pub outcome: &'a Buffer,
    /// Bound where a problem has no use for an argument; kernels then read none of it.
    pub unused: &'a Buffer,
}

/// Rows that one binding takes: the first, and how many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    pub first: u64,
    pub count: u64,
}

impl Rows {
    /// All `total` rows, `step` at a time; one empty part of none.
    pub fn parts(total: u64, step: u64) -> impl Iterator<Item = Self> {
        (0..total.max(1))
            .step_by(step.max(1) as usize)
            .map(move |first| Self {
                first,
                count: step.min(total - first),
            })
    }

    fn of(self, view: BufferView<'_>, row_bytes: u64) -> BufferView<'_> {
        let offset = view.offset + self.first * row_bytes;
        BufferView::range(view.buffer, offset, self.count * row_bytes)
    }
}

/// The rows of target and draft that are bound together. A node is worked on where both of its rows are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    pub target: Rows,
    pub draft: Rows,
}

impl Pair {
    /// All rows of a problem, which kernels take that read no logits.
    pub fn whole(problem: &VerifyProblem) -> Self {
        let all = |count| Rows { first: 0, count };
        Self {
            target: all(problem.rows()),
            draft: all(problem.all_draft_rows()),
        }
    }
}

/// What the requests of a batch need of the dispatches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    pub marks: bool,
    pub drafts: bool,
    pub cuts: Cuts,
    pub draft_cuts: Cuts,
}

/// What the cut-offs of one kind of rows need.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cuts {
    pub any: bool,
    /// Whether bins are made: `cuts_by_mass` of `shaders/verify/cutting.wgsl`.
    pub bins: bool,
}

/// Parameters for the rows of a pair, and the children of one window.
pub(super) fn params(problem: &VerifyProblem, pair: Pair, window: (u32, u32)) -> VerifyParams {
    let layout = Layout::of(problem, pair.target.count);
    VerifyParams {
        vocabulary: problem.vocabulary,
        row_stride: problem.row_stride,
        max_nodes: problem.max_nodes,
        tree_words: tree::blob_words(problem.tree_stride as usize) as u32,
        first_row: pair.target.first as u32,
        draft_rows: problem.draft_rows,
        mask_words: problem.mask_words(),
        mask_rows: problem.mask_rows(),
        outcome_words: problem.outcome_words() as u32,
        part_rows: pair.target.count as u32,
        tree_stride: problem.tree_stride,
        blocks: problem.vocabulary.div_ceil(BLOCK),
        kinds: kinds(problem),
        marks_at: layout.marks as u32,
        first_child: window.0,
        end_child: window.1,
        bins_at: layout.bins as u32,
        searches_at: layout.searches as u32,
        lists_at: layout.lists as u32,
        groups_at: layout.groups as u32,
        candidates: candidates(problem),
        top: problem.top_log_probabilities,
        first_draft: pair.draft.first as u32,
        part_drafts: pair.draft.count as u32,
        drafts_in_parts: u32::from(pair.draft.count < problem.all_draft_rows()),
        width: 0,
    }
}

/// Turns of loops that a row takes at most in the kernels which go through blocks, with eight invocations: those of
/// `shaders/verify/mark.wgsl` with the largest vocabulary and tree, and of `gather.wgsl` where it looks into every group.
const ROW_TURNS: u32 = 3200;
/// Those of `shaders/verify/select.wgsl` and `choose.wgsl` with as many candidates as there may be, the largest vocabulary,
/// and 32 invocations.
const CHOOSE_TURNS: u32 =
    2 * (MAX_CANDIDATES / 32) * (MAX_CANDIDATES / 4) + 400 + 8 * (super::MAX_VOCABULARY / 32 / 32);

/// Those of `shaders/verify/cut.wgsl` with 32 invocations: two searches of six digits, and the sum.
fn cut_turns(vocabulary: u32) -> u32 {
    let row = vocabulary.div_ceil(4 * 32);
    12 * (row + 200) + row
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
    groups: u64,
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
        let groups = lists + of_kinds * 2 * u64::from(candidates(problem));
        let end = groups + blocks * u64::from(BLOCK / LEAST_GROUP);
        Self {
            marks,
            bins,
            searches,
            lists,
            groups,
            end,
        }
    }
}

/// Words of scratch for `rows` rows.
pub(super) fn scratch_words(problem: &VerifyProblem, rows: u64) -> u64 {
    Layout::of(problem, rows).end
}

impl Part {
    /// Binds the kernels for the rows of `pair`. Its `scratch` is that of all parts with the same rows of the target.
    pub fn bind(
        prepared: &PreparedVerify,
        io: &VerifyIo<'_>,
        shared: &Shared<'_>,
        pair: Pair,
        scratch: &Buffer,
    ) -> Result<Self, VerifyError> {
        let (gpu, problem) = (prepared.plan.gpu(), prepared.plan.problem());
        let form = prepared.plan.form();
        let windows = windows(problem, form.child_lanes());
        let uniforms: Vec<Buffer> = windows
            .iter()
            .map(|&window| gpu.uniform("verify", &params(problem, pair, window)))
            .collect();
        let row = problem.row_bytes();
        let logits = pair.target.of(io.logits, row);
        let draft = io.draft.map(|draft| pair.draft.of(draft, row));
        let unused = BufferView::whole(shared.unused);
        let common = |uniform| {
            [
                ("params", BufferView::whole(uniform)),
                ("requests", BufferView::whole(shared.requests)),
                ("tree", io.tree),
                ("nodes", BufferView::whole(shared.nodes)),
                ("scratch", BufferView::whole(scratch)),
                ("logits", logits),
                ("draft", draft.unwrap_or(unused)),
            ]
        };
        let uniform = &uniforms[0];
        let waves = ("waves", BufferView::whole(shared.waves));
        let with = |uniform, last| {
            let mut views = common(uniform).to_vec();
            views.push(last);
            views
        };
        let one = |pipeline: &Arc<Pipeline>| dispatch(gpu, pipeline, &with(uniform, waves));
        let all = |pipelines: &[Arc<Pipeline>]| {
            let bound = pipelines.iter().map(one);
            bound.collect::<Result<Vec<_>, _>>()
        };
        let children = uniforms
            .iter()
            .map(|uniform| dispatch(gpu, &prepared.children, &with(uniform, waves)));
        let [begin, sums, decide] = &prepared.joint;
        let joint = |pipeline| dispatch(gpu, pipeline, &common(uniform));
        let outcome = ("outcome", BufferView::whole(shared.outcome));
        // Marks are those of the target's rows: the first part with them makes them.
        let mark = prepared.mark.as_ref().filter(|_| pair.draft.first == 0);
        let mark = mark.map(|mark| {
            let views = [
                ("params", BufferView::whole(uniform)),
                ("requests", BufferView::whole(shared.requests)),
                ("tree", io.tree),
                ("masks", io.masks.unwrap_or(unused)),
                ("scratch", BufferView::whole(scratch)),
                waves,
            ];
            dispatch(gpu, mark, &views)
        });
        Ok(Self {
            mark: mark.transpose()?,
            rows: one(&prepared.rows)?,
            draft_rows: prepared.draft_rows.as_ref().map(one).transpose()?,
            merge: one(&prepared.merge)?,
            cuts: all(&prepared.cuts)?,
            draft_cuts: all(&prepared.draft_cuts)?,
            children: children.collect::<Result<_, _>>()?,
            joint: [joint(begin)?, joint(sums)?, joint(decide)?],
            rest: one(&prepared.rest)?,
            sample: dispatch(gpu, &prepared.sample, &with(uniform, outcome))?,
            top: (prepared.top_processed.as_ref())
                .map(|top| dispatch(gpu, top, &with(uniform, outcome)))
                .transpose()?,
            max_nodes: problem.max_nodes,
            form,
            cut_turns: cut_turns(problem.vocabulary),
            blocks: problem.vocabulary.div_ceil(BLOCK * form.span()),
            batch: problem.batch,
        })
    }

    /// Records, for a wave of `width` rows a request, the statistics of the rows and the tests of their children.
    pub fn encode_rows(&self, pass: &mut ComputePass<'_>, width: u32, needs: Needs) {
        let places = self.form.places(width, ROW_TURNS);
        let of_rows = [places, 1, self.batch];
        let of_blocks = [self.blocks, places, self.batch];
        // These compare candidates, and go through whole rows.
        let of_candidates = [self.form.places(width, CHOOSE_TURNS), 1, self.batch];
        let of_whole = [self.form.places(width, self.cut_turns), 1, self.batch];
        if let Some(mark) = self.mark.as_ref().filter(|_| needs.marks) {
            mark.encode(pass, of_rows);
        }
        self.rows.encode(pass, of_blocks);
        let draft_rows = self.draft_rows.as_ref().filter(|_| needs.drafts);
        if let Some(rows) = draft_rows {
            rows.encode(pass, of_blocks);
        }
        let kinds = 1 + u32::from(draft_rows.is_some());
        self.merge.encode(pass, [places, kinds, self.batch]);
        for (cuts, needed) in [
            (&self.cuts, needs.cuts),
            (&self.draft_cuts, needs.draft_cuts),
        ] {
            let (any, bins) = (needed.any, needed.any && needed.bins);
            let kernels = [
                (of_candidates, any),
                (of_blocks, bins),
                (of_rows, bins),
                (of_blocks, bins),
                (of_candidates, bins),
                (of_whole, any),
            ];
            for (kernel, (groups, _)) in cuts.iter().zip(kernels).filter(|(_, (_, needed))| *needed)
            {
                kernel.encode(pass, groups);
            }
        }
        for children in &self.children {
            children.encode(pass, of_rows);
        }
    }

    /// Records the tests that look at several tokens together, parts in order. With `turns` each child has a turn of its
    /// own, as traversal of trees that were drawn by chance asks for.
    pub fn encode_joint(&self, pass: &mut ComputePass<'_>, turns: bool) {
        let [begin, sums, decide] = &self.joint;
        let children = self.max_nodes.max(2) - 1;
        let turns = match turns {
            true => children,
            false => children.div_ceil(TURN_CHILDREN),
        };
        begin.encode(pass, [self.batch, 1, 1]);
        for turn in 0..turns {
            // Block verification has all its nodes in the first.
            let places = match turn {
                0 => self.form.places(self.max_nodes, ROW_TURNS),
                _ => 1,
            };
            if self.form.drafted {
                sums.encode(pass, [self.blocks, places, self.batch]);
            }
            decide.encode(pass, [self.batch, 1, 1]);
        }
    }

    /// Records, after the walk, the token after it and log-probabilities.
    pub fn encode_sample(&self, pass: &mut ComputePass<'_>) {
        let places = self.form.places(self.max_nodes, ROW_TURNS);
        self.rest.encode(pass, [self.blocks, places, self.batch]);
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
