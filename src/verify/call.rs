//! A compiled plan bound to buffers, and recorded.

use std::sync::{Arc, Mutex, PoisonError};

use wgpu::{Buffer, ComputePass};

use super::kernels::{self, FinaliseParams, NODE_BYTES, VerifyParams};
use super::part::{self, Cuts, Needs, Pair, Part, Rows, Shared, params};
use super::request::RequestWords;
use super::top::Top;
use super::waves::widths;
use super::{PreparedVerify, Rule, VerifyError, VerifyProblem, VerifyRequest};
use crate::gpu::{BufferView, Gpu};
use crate::ops::Dispatch;
use crate::tree::{self, DrawKind};

/// The buffers of a verification.
#[derive(Clone, Copy, Debug)]
pub struct VerifyIo<'a> {
    /// The target's logits, `[batch, max_nodes, row_stride]`. A view over the device's binding limit is
    /// bound in parts.
    pub logits: BufferView<'a>,
    /// The draft's logits, `[batch, draft_rows, row_stride]`, in the rows that
    /// [`DraftTree::q_rows`](crate::tree::DraftTree::q_rows) names; given exactly when the problem has
    /// draft rows. For a drafter that has probabilities instead, their logarithms. A view over the device's
    /// binding limit is bound in parts; block and traversal verification then need rows that ascend with the parents
    /// of what was drawn from them, as all builders number them.
    pub draft: Option<BufferView<'a>>,
    /// `[batch]` of [`DraftTree::blob`](crate::tree::DraftTree::blob)`(tree_stride)`.
    pub tree: BufferView<'a>,
    /// `[batch]` of four u32s, as in [`attention::lengths`](crate::attention::lengths()): of them the
    /// second, the absolute position of the root, is read, and moved on by [`Verify::encode_finalise`].
    pub lengths: BufferView<'a>,
    /// Bits, `[batch, mask_rows, mask_words]`: in row 0 of a request bit `y % 32` of word `y / 32` is set
    /// for committed tokens that penalties look at; in row `1 + node` for tokens that the grammar allows
    /// after the node. Given exactly when the problem has penalties or a grammar.
    pub masks: Option<BufferView<'a>>,
}

/// A verification bound to its buffers: records any number of steps and allocates nothing then.
#[derive(Clone, Debug)]
pub struct Verify {
    gpu: Gpu,
    problem: VerifyProblem,
    parts: Vec<Part>,
    /// Rows of a request in each wave, and the walk after it.
    waves: Vec<(u32, Dispatch)>,
    /// The beginning, for a first wave that is the first, and for one that is the last.
    checks: [Dispatch; 2],
    top: Option<Top>,
    finalise: Dispatch,
    requests: Buffer,
    /// As the GPU has them from the next submission on; what none needs is not recorded.
    uses: Arc<Mutex<Vec<VerifyRequest>>>,
    outcome: Buffer,
}

impl PreparedVerify {
    /// Binds buffers. Until [`Verify::set_request`] says otherwise every request is verified greedily.
    ///
    /// # Errors
    /// [`VerifyError::ViewTooSmall`], [`VerifyError::Argument`], and through [`VerifyError::Gpu`] the
    /// errors of a misaligned, aliased or oversized view.
    pub fn bind(&self, io: &VerifyIo<'_>) -> Result<Verify, VerifyError> {
        let (gpu, problem) = (self.plan.gpu(), self.plan.problem());
        check_io(problem, io)?;
        let batch = u64::from(problem.batch);
        let nodes = gpu.storage("verify nodes", problem.rows() * NODE_BYTES)?;
        let outcome_words = problem.outcome_words() as u32;
        let outcome = gpu.storage("verify outcome", batch * u64::from(outcome_words) * 4)?;
        let wave_words = u64::from(kernels::WAVE_HEADER + problem.max_nodes);
        let waves = gpu.storage("verify waves", batch * wave_words * 4)?;
        let greedy = VerifyRequest::new(Rule::Greedy, DrawKind::TopK, 0);
        let words: Vec<RequestWords> = (0..problem.batch)
            .map(|request| greedy.words(problem, request))
            .collect::<Result<_, _>>()?;
        let requests = gpu.storage_with("verify requests", &words)?;
        let unused = gpu.storage("verify unused", 4)?;
        let shared = Shared {
            requests: &requests,
            nodes: &nodes,
            waves: &waves,
            outcome: &outcome,
            unused: &unused,
        };
        let step = self.plan.part_rows();
        let mut parts = Vec::new();
        for target in Rows::parts(problem.rows(), step) {
            let words = part::scratch_words(problem, target.count);
            let scratch = gpu.storage("verify scratch", words * 4)?;
            let drafts = Rows::parts(problem.all_draft_rows(), self.plan.part_draft_rows());
            for draft in drafts {
                let pair = Pair { target, draft };
                parts.push(Part::bind(self, io, &shared, pair, &scratch)?);
            }
        }
        let uniform = |width| {
            let in_parts = self.plan.part_draft_rows() < problem.all_draft_rows();
            let params = VerifyParams {
                drafts_in_parts: u32::from(in_parts),
                width,
                ..params(problem, Pair::whole(problem), (0, 0))
            };
            gpu.uniform("verify", &params)
        };
        let walk = |width| -> Result<Dispatch, VerifyError> {
            let arguments = gpu.bind(
                &self.walk,
                &[
                    ("params", BufferView::whole(&uniform(width))),
                    ("requests", BufferView::whole(&requests)),
                    ("tree", io.tree),
                    ("nodes", BufferView::whole(&nodes)),
                    ("lengths", io.lengths),
                    ("outcome", BufferView::whole(&outcome)),
                    ("waves", BufferView::whole(&waves)),
                ],
            )?;
            Ok(Dispatch::new(self.walk.clone(), arguments))
        };
        let check = |width| -> Result<Dispatch, VerifyError> {
            let arguments = gpu.bind(
                &self.check,
                &[
                    ("params", BufferView::whole(&uniform(width))),
                    ("requests", BufferView::whole(&requests)),
                    ("tree", io.tree),
                    ("nodes", BufferView::whole(&nodes)),
                    ("outcome", BufferView::whole(&outcome)),
                    ("waves", BufferView::whole(&waves)),
                ],
            )?;
            Ok(Dispatch::new(self.check.clone(), arguments))
        };
        let widths = widths(problem.max_nodes, gpu.capabilities().class);
        // Each walk lists the rows of the next wave.
        let next = widths.iter().skip(1).copied().chain([0]);
        let walks = (widths.iter().zip(next))
            .map(|(width, next)| Ok((*width, walk(next)?)))
            .collect::<Result<Vec<_>, VerifyError>>()?;
        let checks = [check(widths[0])?, check(problem.max_nodes)?];
        let top = (self.top.as_ref())
            .map(|top| top.bind(gpu, problem, step, io.logits, &outcome))
            .transpose()?;
        let finalise = FinaliseParams {
            batch: problem.batch,
            outcome_words,
        };
        let uniform = gpu.uniform("verify", &finalise);
        let finalise = gpu.bind(
            &self.finalise,
            &[
                ("params", BufferView::whole(&uniform)),
                ("outcome", BufferView::whole(&outcome)),
                ("lengths", io.lengths),
            ],
        )?;
        Ok(Verify {
            gpu: gpu.clone(),
            problem: *problem,
            parts,
            waves: walks,
            checks,
            top,
            finalise: Dispatch::new(self.finalise.clone(), finalise),
            requests,
            uses: Arc::new(Mutex::new(vec![greedy; problem.batch as usize])),
            outcome,
        })
    }
}

pub(super) fn check_io(problem: &VerifyProblem, io: &VerifyIo<'_>) -> Result<(), VerifyError> {
    let optional = |name, view: Option<BufferView<'_>>, is_needed: bool| match (view, is_needed) {
        (None, true) => Err(VerifyError::Argument {
            name,
            problem: "is missing, but the problem was planned with it",
        }),
        (Some(_), false) => Err(VerifyError::Argument {
            name,
            problem: "was given, but the problem was planned without it; leave it out or plan with it",
        }),
        _ => Ok(()),
    };
    optional("draft", io.draft, problem.draft_rows > 0)?;
    optional("masks", io.masks, problem.mask_rows() > 0)?;
    let batch = u64::from(problem.batch);
    let blob = tree::blob_words(problem.tree_stride as usize) as u64 * 4;
    let mask = u64::from(problem.mask_rows()) * u64::from(problem.mask_words()) * 4;
    let draft = u64::from(problem.draft_rows) * problem.row_bytes();
    let needs = [
        (
            "logits",
            Some(io.logits),
            problem.rows() * problem.row_bytes(),
        ),
        ("draft", io.draft, batch * draft),
        ("tree", Some(io.tree), batch * blob),
        ("lengths", Some(io.lengths), batch * 16),
        ("masks", io.masks, batch * mask),
    ];
    for (name, view, needed) in needs {
        if let Some(view) = view.filter(|view| view.size < needed) {
            let given = view.size;
            return Err(VerifyError::ViewTooSmall {
                name,
                needed,
                given,
            });
        }
    }
    Ok(())
}

impl Verify {
    /// Says how a request is verified from the next submission on. Call it before [`Verify::encode`], which
    /// leaves out what no request needs.
    ///
    /// # Errors
    /// [`VerifyError::Rule`] for a rule that does not fit the draw, [`VerifyError::Sampling`] and [`VerifyError::Request`] for options out of range
    /// or that the problem was not planned for.
    pub fn set_request(&self, index: u32, request: &VerifyRequest) -> Result<(), VerifyError> {
        if index >= self.problem.batch {
            return Err(VerifyError::Request {
                request: index,
                problem: "is outside the batch",
            });
        }
        let words = request.words(&self.problem, index)?;
        let offset = u64::from(index) * size_of::<RequestWords>() as u64;
        self.gpu
            .queue()
            .write_buffer(&self.requests, offset, bytemuck::bytes_of(&words));
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_request) = uses.get_mut(index as usize) {
            *of_request = *request;
        }
        Ok(())
    }

    pub(super) fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The problem.
    pub fn problem(&self) -> &VerifyProblem {
        &self.problem
    }

    /// Records the verification of all requests: statistics, tests, decisions, and the token after them. Blobs are
    /// checked whole: damage off the walked path has a flag in the outcome too.
    pub fn encode(&self, pass: &mut ComputePass<'_>) {
        let uses = |of: &dyn Fn(&VerifyRequest) -> bool| {
            let uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
            uses.iter().any(of)
        };
        let vocabulary = self.problem.vocabulary;
        let needs = Needs {
            marks: uses(&VerifyRequest::has_marks),
            drafts: uses(&VerifyRequest::is_drawn),
            cuts: Cuts {
                any: uses(&VerifyRequest::has_target_cut),
                bins: uses(&|request| request.sampling.cuts_by_mass(vocabulary)),
            },
            draft_cuts: Cuts {
                any: uses(&VerifyRequest::has_draft_cut),
                bins: uses(&|request| request.drafting.cuts_by_mass(vocabulary)),
            },
        };
        let turns = uses(&|request| request.rule == Rule::Traversal && request.is_drawn());
        let joint = uses(&VerifyRequest::is_joint);
        let batch = [self.problem.batch, 1, 1];
        // Rules that look at all nodes together have no use for any wave but the last.
        let last = self.waves.len() - 1;
        let (check, first) = match uses(&VerifyRequest::walks_down) {
            true => (&self.checks[0], 0),
            false => (&self.checks[1], last),
        };
        check.encode(pass, batch);
        for (index, (width, walk)) in self.waves.iter().enumerate().skip(first) {
            for part in &self.parts {
                part.encode_rows(pass, *width, needs);
            }
            if joint && index == last {
                for part in &self.parts {
                    part.encode_joint(pass, turns);
                }
            }
            walk.encode(pass, batch);
        }
        for part in &self.parts {
            part.encode_sample(pass);
        }
        if let Some(top) = &self.top {
            top.encode(pass);
            for part in &self.parts {
                part.encode_top(pass);
            }
        }
    }

    /// Records the end of a step: the lengths move on by the root and the accepted nodes; those of a
    /// request whose outcome has an error flag stay.
    pub fn encode_finalise(&self, pass: &mut ComputePass<'_>) {
        let groups = kernels::finalise_groups(self.problem.batch);
        self.finalise.encode(pass, [groups, 1, 1]);
    }

    /// The outcome buffer, `[batch]` of the words that [`VerifyProblem::verdict`] reads.
    pub fn outcome(&self) -> &Buffer {
        &self.outcome
    }
}
