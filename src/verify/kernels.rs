//! The kernels of verification, as text and bindings.

use crate::attention::Element;
use crate::gpu::{AdapterClass, Binding, Kernel, Source, shader, shared_struct};

use super::windows::MOST_TURNS;
use super::{VerifyProblem, advance, top};
use Binding::{Read, Uniform, Write};

shared_struct! {
    /// Parameters shared with `shaders/verify/state.wgsl`.
    pub(crate) struct VerifyParams {
        pub(super) vocabulary: u32,
        pub(super) row_stride: u32,
        pub(super) max_nodes: u32,
        pub(super) tree_words: u32,
        pub(super) first_row: u32,
        pub(super) draft_rows: u32,
        pub(super) mask_words: u32,
        pub(super) mask_rows: u32,
        pub(super) outcome_words: u32,
        pub(super) part_rows: u32,
        pub(super) tree_stride: u32,
        pub(super) blocks: u32,
        pub(super) kinds: u32,
        pub(super) marks_at: u32,
        pub(super) first_child: u32,
        pub(super) end_child: u32,
        pub(super) bins_at: u32,
        pub(super) searches_at: u32,
        pub(super) lists_at: u32,
        pub(super) groups_at: u32,
        pub(super) candidates: u32,
        pub(super) top: u32,
        pub(super) first_draft: u32,
        pub(super) part_drafts: u32,
        pub(super) drafts_in_parts: u32,
        pub(super) width: u32,
    }
}

shared_struct! {
    /// Parameters shared with `shaders/verify/finalise.wgsl`.
    pub(crate) struct FinaliseParams {
        pub(super) batch: u32,
        pub(super) outcome_words: u32,
    }
}

/// Bytes of `NodeState` in `shaders/verify/nodes.wgsl`.
pub(super) const NODE_BYTES: u64 = 100;

/// Tokens of a row that one workgroup goes through. Blocks begin at its multiples, whatever else there is, so that
/// sums have the same bits.
pub(super) const BLOCK: u32 = 4096;
/// Blocks of the largest vocabulary.
const MAX_BLOCKS: u32 = super::MAX_VOCABULARY / BLOCK;
/// Words of the statistics of a block: see `shaders/verify/scratch_plain.wgsl`.
pub(super) const STAT_WORDS: u32 = 8;
/// Words of a request's list of rows before its nodes: see `shaders/verify/wave_write.wgsl`.
pub(super) const WAVE_HEADER: u32 = 4;

/// Tokens of a group in `shaders/verify/groups.wgsl`, on the class of adapters with the smallest.
pub(super) const LEAST_GROUP: u32 = 16;

/// Bins of a cut-off's search, and the tokens that are compared with each other at most.
pub(super) const BINS: u32 = 64;
pub(super) const MAX_CANDIDATES: u32 = 768;
/// Words of a search in `shaders/verify/cutting.wgsl`.
pub(super) const SEARCH_WORDS: u32 = 6;

/// Bytes of `shaders/verify/candidates.wgsl`: the candidates, sums and the cut-off. With 32 invocations none has more than
/// 24 candidates: it keeps a bit for each.
const CANDIDATE_BYTES: u64 = MAX_CANDIDATES as u64 * 16 + 16 + 8;

/// Children that one turn of `shaders/verify/joint.wgsl` tests at most, where none needs sums: the loops of one invocation
/// must not take too many turns together (`verify/windows.rs`).
pub(super) const TURN_CHILDREN: u32 = 1024;

/// Bytes of `Stat` in `shaders/verify/stat.wgsl`.
const STAT_BYTES: u64 = 12;
const REMOVED_BYTES: u64 = BLOCK as u64 / 8;
const FINALISE_LANES: u32 = 64;

/// Bytes of `sums.wgsl`.
fn sum_bytes(lanes: u32) -> u64 {
    u64::from(lanes) * 4 + 16 * 4
}

/// What the kernels of a problem are compiled for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub element: Element,
    /// Penalties or a grammar.
    pub marked: bool,
    /// Draft logits.
    pub drafted: bool,
    /// Rows begin at multiples of four words.
    pub quads: bool,
    /// One SIMD vector a workgroup, since barriers switch coroutines.
    pub software: bool,
}

impl Form {
    pub fn of(problem: &VerifyProblem, class: AdapterClass) -> Self {
        let element = problem.element;
        Self {
            element,
            marked: problem.mask_rows() > 0,
            drafted: problem.draft_rows > 0,
            // Of 16-bit logits two words have four: reading more at a time is not written.
            quads: element == Element::F32 && problem.row_stride.is_multiple_of(4),
            software: class == AdapterClass::Software,
        }
    }

    /// Blocks that a workgroup goes through. A CPU runs all of a kernel, masked, where a workgroup finds nothing to do: as
    /// much as some hundred tokens.
    pub fn span(self) -> u32 {
        if self.software { 4 } else { 1 }
    }

    /// Workgroups that share the rows of a wave of `width` rows, each of which takes `turns` turns of loops at most: few
    /// on a CPU, but so many that the loops of none come to an early end (`verify/windows.rs`).
    pub fn places(self, width: u32, turns: u32) -> u32 {
        if self.software {
            width
                .div_ceil((MOST_TURNS / turns).max(1))
                .max(width.min(4))
        } else {
            width
        }
    }

    fn lanes(self, hardware: u32, software: u32) -> u32 {
        if self.software { software } else { hardware }
    }

    /// A kernel with the files that all have which know nodes and tokens.
    fn kernel(self, name: &str, lanes: u32, bindings: &[Binding]) -> Kernel {
        self.on_scratch(name, lanes, bindings, shader!("verify/scratch_plain.wgsl"))
    }

    fn on_scratch(self, name: &str, lanes: u32, bindings: &[Binding], scratch: Source) -> Kernel {
        let mut full = format!("verify/{name}/{}", self.element.name());
        for (holds, part) in [
            (self.quads, "/quads"),
            (self.marked, "/marks"),
            (self.drafted, "/drafts"),
        ] {
            if holds {
                full.push_str(part);
            }
        }
        full.push_str(&format!("/lanes{lanes}"));
        let marks = match self.marked {
            true => shader!("verify/marks_words.wgsl"),
            false => shader!("verify/marks_none.wgsl"),
        };
        let words = match self.quads {
            true => shader!("verify/logits_quads.wgsl"),
            false => shader!("verify/logits_words.wgsl"),
        };
        let draft = match self.drafted {
            true => shader!("verify/draft_rows.wgsl"),
            false => shader!("verify/draft_none.wgsl"),
        };
        Kernel::new(full, [lanes, 1, 1], VerifyParams::LAYOUT, bindings)
            .constant("BLOCK", BLOCK)
            .constant("STAT_WORDS", STAT_WORDS)
            .source(shader!("verify/state.wgsl"))
            .source(shader!("verify/blob.wgsl"))
            .source(shader!("verify/nodes.wgsl"))
            .source(scratch)
            .source(shader!("verify/process.wgsl"))
            .source(words)
            .source(logits(self.element))
            .source(marks)
            .source(draft)
    }
}

pub(super) fn logits(element: Element) -> Source {
    match element {
        // A problem with quantised logits is refused.
        Element::F32 | Element::Q8 | Element::Q4 => shader!("verify/logits_f32.wgsl"),
        Element::F16 => shader!("verify/logits_f16.wgsl"),
        Element::Bf16 => shader!("verify/logits_bf16.wgsl"),
    }
}

/// Which rows a kernel goes through.
#[derive(Clone, Copy, Debug)]
pub(super) enum RowKind {
    Target,
    Draft,
}

impl RowKind {
    fn source(self) -> Source {
        match self {
            Self::Target => shader!("verify/row_target.wgsl"),
            Self::Draft => shader!("verify/row_draft.wgsl"),
        }
    }

    fn name(self, kernel: &str) -> String {
        match self {
            Self::Target => format!("{kernel}/target"),
            Self::Draft => format!("{kernel}/draft"),
        }
    }
}

/// Parameters, requests, trees, nodes, scratch, target and draft logits.
const COMMON: [Binding; 7] = [Uniform, Read, Read, Write, Write, Read, Read];
/// [`COMMON`], and the rows that are worked on.
const OF_WAVE: [Binding; 8] = [Uniform, Read, Read, Write, Write, Read, Read, Read];
/// [`COMMON`], and the outcome.
const WITH_OUTCOME: [Binding; 8] = [Uniform, Read, Read, Write, Write, Read, Read, Write];

/// Adds the file that tells which rows are worked on, bound at `binding`.
fn reads_wave(kernel: Kernel, binding: usize) -> Kernel {
    kernel
        .constant("WAVE_HEADER", WAVE_HEADER)
        .constant("WAVES_BINDING", binding as u32)
        .source(shader!("verify/wave_read.wgsl"))
}

/// The kernels that go through logits.
impl Form {
    pub fn rows(self, kind: RowKind) -> Kernel {
        let lanes = self.row_lanes();
        let kernel = self.kernel(&kind.name("rows"), lanes, &OF_WAVE);
        self.with_groups(reads_wave(kernel, COMMON.len()))
            .constant("SLOTS", lanes)
            .constant("SPAN", self.span())
            .source(kind.source())
            .source(shader!("verify/stat.wgsl"))
            .source(shader!("verify/groups.wgsl"))
            .source(shader!("verify/rows.wgsl"))
            .workgroup_bytes(u64::from(lanes) * STAT_BYTES)
    }

    /// Invocations of the kernel that goes through rows.
    fn row_lanes(self) -> u32 {
        self.lanes(256, 8)
    }

    /// Turns of eight tokens an invocation that make a group.
    fn group_turns(self) -> u32 {
        self.lanes(2, 4)
    }

    /// The groups of tokens of which that kernel keeps the maxima: 16 tokens, or 32.
    fn with_groups(self, kernel: Kernel) -> Kernel {
        kernel
            .constant("GROUP_LANES", self.row_lanes())
            .constant("GROUP_TURNS", self.group_turns())
    }

    pub fn merge(self) -> Kernel {
        let kernel = self.kernel("merge", self.lanes(MAX_BLOCKS, 8), &OF_WAVE);
        reads_wave(kernel, COMMON.len())
            .constant("SLOTS", MAX_BLOCKS)
            .source(shader!("verify/stat.wgsl"))
            .source(shader!("verify/merge.wgsl"))
            .workgroup_bytes(u64::from(MAX_BLOCKS) * STAT_BYTES)
    }

    fn cutting(self, name: &str, kind: RowKind, lanes: u32, scratch: Source) -> Kernel {
        let kernel = self.on_scratch(&kind.name(name), lanes, &OF_WAVE, scratch);
        reads_wave(kernel, COMMON.len())
            .constant("BINS", BINS)
            .constant("MAX_CANDIDATES", MAX_CANDIDATES)
            .source(kind.source())
            .source(shader!("verify/cutting.wgsl"))
    }

    pub fn select(self, kind: RowKind) -> Kernel {
        let lanes = self.lanes(256, 32);
        let kernel = self.cutting("select", kind, lanes, shader!("verify/scratch_plain.wgsl"));
        self.with_groups(kernel)
            .source(shader!("verify/groups.wgsl"))
            .source(shader!("verify/candidates.wgsl"))
            .source(shader!("verify/select.wgsl"))
            // candidates.wgsl; counts, the list of groups, and four words
            .workgroup_bytes(CANDIDATE_BYTES + u64::from(BINS + MAX_CANDIDATES) * 4 + 16)
    }

    pub fn bins(self, kind: RowKind) -> Kernel {
        // Every invocation has bins of its own.
        let lanes = self.lanes(32, 8);
        self.cutting("bins", kind, lanes, shader!("verify/scratch_plain.wgsl"))
            .constant("SPAN", self.span())
            .source(shader!("verify/search_state.wgsl"))
            .source(shader!("verify/bins.wgsl"))
            .workgroup_bytes(u64::from(lanes * BINS) * 4 + 4)
    }

    pub fn pick(self, kind: RowKind) -> Kernel {
        let lanes = self.lanes(BINS, 8);
        self.cutting("pick", kind, lanes, shader!("verify/scratch_plain.wgsl"))
            .source(shader!("verify/search_state.wgsl"))
            .source(shader!("verify/pick.wgsl"))
            .workgroup_bytes(u64::from(BINS) * 4 + 4)
    }

    pub fn gather(self, kind: RowKind) -> Kernel {
        let lanes = self.lanes(256, 8);
        let kernel = self.cutting("gather", kind, lanes, shader!("verify/scratch_atomic.wgsl"));
        self.with_groups(kernel)
            .constant("SPAN", self.span())
            .source(shader!("verify/groups.wgsl"))
            .source(shader!("verify/search_state.wgsl"))
            .source(shader!("verify/gather.wgsl"))
            .workgroup_bytes(u64::from(self.span() * BLOCK / (8 * self.group_turns())) * 4 + 8)
    }

    pub fn choose(self, kind: RowKind) -> Kernel {
        let lanes = self.lanes(256, 32);
        self.cutting("choose", kind, lanes, shader!("verify/scratch_plain.wgsl"))
            .source(shader!("verify/candidates.wgsl"))
            .source(shader!("verify/choose.wgsl"))
            .workgroup_bytes(CANDIDATE_BYTES + 8)
    }

    pub fn cut(self, kind: RowKind) -> Kernel {
        let lanes = self.lanes(256, 32);
        self.cutting("cut", kind, lanes, shader!("verify/scratch_plain.wgsl"))
            .source(shader!("verify/sums.wgsl"))
            .source(shader!("verify/cut.wgsl"))
            // bins, groups, the search and the state of cut.wgsl
            .workgroup_bytes(sum_bytes(lanes) + 1536 * 4 + 16 * 16 + 32 + 4)
    }

    /// The kernels of a cut-off in order: over rows; where bins are needed over blocks, rows, blocks, rows; over rows.
    pub fn cuts(self, kind: RowKind) -> [Kernel; 6] {
        [
            self.select(kind),
            self.bins(kind),
            self.pick(kind),
            self.gather(kind),
            self.choose(kind),
            self.cut(kind),
        ]
    }

    /// Invocations of the kernels that sum a whole row for a child. Few where there is nothing to sum.
    pub fn child_lanes(self) -> u32 {
        match self.drafted {
            true => self.lanes(256, 32),
            false => self.lanes(16, 8),
        }
    }

    pub fn children(self) -> Kernel {
        let lanes = self.child_lanes();
        reads_wave(self.kernel("children", lanes, &OF_WAVE), COMMON.len())
            .source(shader!("verify/sums.wgsl"))
            .source(shader!("verify/removed.wgsl"))
            .source(shader!("verify/pair.wgsl"))
            .source(shader!("verify/masses.wgsl"))
            .source(shader!("verify/children.wgsl"))
            .workgroup_bytes(sum_bytes(lanes) + REMOVED_BYTES)
    }

    pub fn joint_begin(self) -> Kernel {
        self.kernel("joint_begin", 1, &COMMON)
            .source(shader!("verify/pair.wgsl"))
            .source(shader!("verify/joint_state.wgsl"))
            .source(shader!("verify/joint_begin.wgsl"))
    }

    pub fn joint_sums(self) -> Kernel {
        let lanes = self.lanes(256, 8);
        self.kernel("joint_sums", lanes, &COMMON)
            .constant("SPAN", self.span())
            .source(shader!("verify/sums.wgsl"))
            .source(shader!("verify/removed.wgsl"))
            .source(shader!("verify/pair.wgsl"))
            .source(shader!("verify/masses.wgsl"))
            .source(shader!("verify/joint_state.wgsl"))
            .source(shader!("verify/joint_sums.wgsl"))
            .workgroup_bytes(sum_bytes(lanes) + REMOVED_BYTES + 4)
    }

    pub fn joint(self) -> Kernel {
        let lanes = self.lanes(64, 8);
        self.kernel("joint", lanes, &COMMON)
            .constant("TURN_CHILDREN", TURN_CHILDREN)
            .source(shader!("verify/sums.wgsl"))
            .source(shader!("verify/pair.wgsl"))
            .source(shader!("verify/joint_state.wgsl"))
            .source(shader!("verify/joint.wgsl"))
            .workgroup_bytes(sum_bytes(lanes) + 4)
    }

    pub fn rest(self) -> Kernel {
        let lanes = self.lanes(256, 8);
        reads_wave(self.kernel("rest", lanes, &OF_WAVE), COMMON.len())
            .constant("SLOTS", lanes)
            .constant("SPAN", self.span())
            .source(shader!("verify/sums.wgsl"))
            .source(shader!("verify/removed.wgsl"))
            .source(shader!("verify/pair.wgsl"))
            .source(shader!("verify/residual.wgsl"))
            .source(shader!("verify/stat.wgsl"))
            .source(shader!("verify/rest.wgsl"))
            .workgroup_bytes(sum_bytes(lanes) + REMOVED_BYTES + u64::from(lanes) * STAT_BYTES)
    }

    pub fn sample(self) -> Kernel {
        let lanes = self.lanes(256, 8);
        // block_sums, run_sums and the choices of sample.wgsl; one slot of stat.wgsl
        let choices = u64::from(MAX_BLOCKS) * 8 + u64::from(lanes) * 4 + 32 + STAT_BYTES;
        self.kernel("sample", lanes, &WITH_OUTCOME)
            .constant("SLOTS", 1)
            .constant("MAX_BLOCKS", MAX_BLOCKS)
            .source(shader!("verify/removed.wgsl"))
            .source(shader!("verify/pair.wgsl"))
            .source(shader!("verify/residual.wgsl"))
            .source(shader!("verify/stat.wgsl"))
            .source(shader!("verify/philox.wgsl"))
            .source(shader!("verify/sample.wgsl"))
            .workgroup_bytes(choices + REMOVED_BYTES)
    }
}

impl Form {
    pub fn top_processed(self) -> Kernel {
        self.kernel("top_processed", 64, &WITH_OUTCOME)
            .source(shader!("verify/top_processed.wgsl"))
    }
}

/// Words of the marks of penalties and grammar.
pub(super) fn mark(class: AdapterClass) -> Kernel {
    let lanes = if class == AdapterClass::Software {
        8
    } else {
        256
    };
    let bindings = [Uniform, Read, Read, Read, Write, Read];
    let name = format!("verify/mark/lanes{lanes}");
    let kernel = Kernel::new(name, [lanes, 1, 1], VerifyParams::LAYOUT, &bindings)
        .source(shader!("verify/state.wgsl"))
        .source(shader!("verify/blob.wgsl"));
    reads_wave(kernel, 5).source(shader!("verify/mark.wgsl"))
}

/// The files of kernels that say which rows are worked on next, in a list bound at `binding`.
fn writes_wave(kernel: Kernel, binding: u32) -> Kernel {
    kernel
        .constant("WAVE_HEADER", WAVE_HEADER)
        .constant("WAVES_BINDING", binding)
        .source(shader!("verify/state.wgsl"))
        .source(shader!("verify/blob.wgsl"))
        .source(shader!("verify/nodes.wgsl"))
        .source(shader!("verify/wave_write.wgsl"))
}

pub(super) fn walk() -> Kernel {
    let bindings = [Uniform, Read, Read, Write, Read, Write, Write];
    let kernel = Kernel::new("verify/walk", [1, 1, 1], VerifyParams::LAYOUT, &bindings);
    writes_wave(kernel, 6)
        .source(shader!("verify/philox.wgsl"))
        .source(shader!("verify/walk.wgsl"))
}

/// Begins a verification, and looks whether blobs are trees. Invocations for the largest, in which each token is
/// compared with all others: lavapipe ends all loops of an invocation after 65,535 turns.
pub(super) fn check() -> Kernel {
    let bindings = [Uniform, Read, Read, Write, Write, Write];
    let kernel = Kernel::new("verify/check", [256, 1, 1], VerifyParams::LAYOUT, &bindings);
    writes_wave(kernel, 5)
        .source(shader!("verify/links.wgsl"))
        .source(shader!("verify/check.wgsl"))
        .workgroup_bytes(128 * 4 + 4)
}

pub(super) fn finalise() -> Kernel {
    let bindings = [Uniform, Read, Write];
    Kernel::new(
        "verify/finalise",
        [FINALISE_LANES, 1, 1],
        FinaliseParams::LAYOUT,
        &bindings,
    )
    .source(shader!("verify/finalise.wgsl"))
}

/// Workgroups of [`finalise`] for a batch.
pub(super) fn finalise_groups(batch: u32) -> u32 {
    batch.div_ceil(FINALISE_LANES)
}

/// The kernels of one form.
pub(super) fn of_form(form: Form) -> Vec<Kernel> {
    let mut kernels = vec![
        form.rows(RowKind::Target),
        form.merge(),
        form.children(),
        form.joint_begin(),
        form.joint_sums(),
        form.joint(),
        form.rest(),
        form.sample(),
        form.top_processed(),
    ];
    kernels.extend(form.cuts(RowKind::Target));
    if form.drafted {
        kernels.push(form.rows(RowKind::Draft));
        kernels.extend(form.cuts(RowKind::Draft));
    }
    kernels
}

/// Every variant on a class of adapters.
pub(super) fn variants(class: AdapterClass) -> Vec<Kernel> {
    let mut kernels = vec![mark(class), walk(), check(), finalise()];
    kernels.extend([top::rows_kernel(), advance::kernel()]);
    for element in Element::FLOATS {
        kernels.push(top::blocks_kernel(element, class));
        for (marked, drafted) in [(false, false), (true, false), (false, true), (true, true)] {
            for quads in [false, true] {
                if quads && element != Element::F32 {
                    continue;
                }
                kernels.extend(of_form(Form {
                    element,
                    marked,
                    drafted,
                    quads,
                    software: class == AdapterClass::Software,
                }));
            }
        }
    }
    kernels
}
