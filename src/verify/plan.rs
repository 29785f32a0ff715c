//! A problem turned into kernels.

use std::sync::Arc;

use super::kernels::{self, Form, RowKind};
use super::top::PreparedTop;
use super::{VerifyError, VerifyProblem, part, top};
use crate::gpu::{Gpu, Kernel, Limit, Pipeline, check_limit};

/// A planned problem: sizes and limits checked, nothing compiled yet.
#[derive(Clone, Debug)]
pub struct VerifyPlan {
    gpu: Gpu,
    problem: VerifyProblem,
    part_rows: u64,
    part_draft_rows: u64,
}

/// Of `rows` rows of logits those that one binding takes: all of them where they fit, else as many as end where
/// another binding may begin. `bytes` is the size of the largest thing that is bound with a row.
fn part_rows(
    gpu: &Gpu,
    problem: &VerifyProblem,
    rows: u64,
    bytes: u64,
) -> Result<u64, VerifyError> {
    let limits = &gpu.capabilities().limits;
    let fitting = limits.max_storage_buffer_binding_size / bytes;
    if fitting >= rows {
        return Ok(rows);
    }
    // No padding helps where not even one row fits.
    let row = problem.row_bytes();
    check_limit(limits, "a row of logits", Limit::StorageBinding, row)?;
    let alignment = u64::from(limits.min_storage_buffer_offset_alignment.max(1));
    // Rows until the bytes come to a multiple of the alignment again: both are powers of two times
    // something, of which only the powers count.
    let common = 1
        << problem
            .row_bytes()
            .trailing_zeros()
            .min(alignment.trailing_zeros());
    let unit = alignment / common;
    match fitting / unit * unit {
        0 => Err(VerifyError::Parts {
            limit: limits.max_storage_buffer_binding_size,
            alignment,
            row_bytes: problem.row_bytes(),
        }),
        rows => Ok(rows),
    }
}

impl Gpu {
    /// Checks `problem` against what kernels compute and the device allows.
    ///
    /// # Errors
    /// [`VerifyError::Size`], [`VerifyError::Parts`], and
    /// [`GpuError::LimitExceeded`](crate::gpu::GpuError::LimitExceeded) through [`VerifyError::Gpu`].
    pub fn plan_verify(&self, problem: &VerifyProblem) -> Result<VerifyPlan, VerifyError> {
        problem.check()?;
        let row = problem.row_bytes();
        // Scratch is bound with the target's rows; a row of it is larger only where the vocabulary is tiny.
        let with_scratch = row.max(part::scratch_words(problem, 1) * 4);
        let plan = VerifyPlan {
            gpu: self.clone(),
            problem: *problem,
            part_rows: part_rows(self, problem, problem.rows(), with_scratch)?,
            part_draft_rows: part_rows(self, problem, problem.all_draft_rows(), row)?,
        };
        for kernel in plan.kernels() {
            kernel.check(self.capabilities())?;
        }
        if problem.top_log_probabilities > 0 {
            let limits = &self.capabilities().limits;
            let bytes = top::block_bytes(problem);
            check_limit(
                limits,
                "the lists of likely tokens",
                Limit::StorageBinding,
                bytes,
            )?;
        }
        Ok(plan)
    }
}

impl VerifyPlan {
    pub(super) fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    pub(super) fn form(&self) -> Form {
        Form::of(&self.problem, self.gpu.capabilities().class)
    }

    /// The kernels that [`prepare`](Self::prepare) compiles.
    pub fn kernels(&self) -> Vec<Kernel> {
        let form = self.form();
        let class = self.gpu.capabilities().class;
        let mut kernels = kernels::of_form(form);
        kernels.extend([kernels::walk(), kernels::check(), kernels::finalise()]);
        if form.marked {
            kernels.push(kernels::mark(class));
        }
        if self.problem.top_log_probabilities > 0 {
            kernels.push(top::blocks_kernel(self.problem.element, class));
            kernels.push(top::rows_kernel());
        }
        kernels
    }

    async fn cuts(&self, gpu: &Gpu, kind: RowKind) -> Result<Vec<Arc<Pipeline>>, VerifyError> {
        let mut pipelines = Vec::new();
        for kernel in self.form().cuts(kind) {
            pipelines.push(gpu.pipeline(&kernel).await?);
        }
        Ok(pipelines)
    }

    /// The problem that was planned.
    pub fn problem(&self) -> &VerifyProblem {
        &self.problem
    }

    /// Rows of the target's logits that are bound at a time: all of them, where one binding takes them.
    pub fn part_rows(&self) -> u64 {
        self.part_rows
    }

    /// Rows of the draft's logits that are bound at a time: all of them, where one binding takes them.
    pub fn part_draft_rows(&self) -> u64 {
        self.part_draft_rows
    }

    /// Compiles the kernels, once a device.
    ///
    /// # Errors
    /// [`GpuError::Compile`](crate::gpu::GpuError::Compile).
    pub async fn prepare(&self) -> Result<PreparedVerify, VerifyError> {
        let form = self.form();
        let class = self.gpu.capabilities().class;
        let together = self.gpu.together();
        let gpu = &together.gpu;
        let (has_marks, has_draft) = (form.marked, form.drafted);
        let draft = async |kernel: Kernel| match has_draft {
            true => gpu.pipeline(&kernel).await.map(Some),
            false => Ok(None),
        };
        let prepared = PreparedVerify {
            plan: self.clone(),
            mark: match has_marks {
                true => Some(gpu.pipeline(&kernels::mark(class)).await?),
                false => None,
            },
            rows: gpu.pipeline(&form.rows(RowKind::Target)).await?,
            draft_rows: draft(form.rows(RowKind::Draft)).await?,
            merge: gpu.pipeline(&form.merge()).await?,
            cuts: self.cuts(gpu, RowKind::Target).await?,
            draft_cuts: match has_draft {
                true => self.cuts(gpu, RowKind::Draft).await?,
                false => Vec::new(),
            },
            children: gpu.pipeline(&form.children()).await?,
            joint: [
                gpu.pipeline(&form.joint_begin()).await?,
                gpu.pipeline(&form.joint_sums()).await?,
                gpu.pipeline(&form.joint()).await?,
            ],
            walk: gpu.pipeline(&kernels::walk()).await?,
            check: gpu.pipeline(&kernels::check()).await?,
            top: match self.problem.top_log_probabilities {
                0 => None,
                _ => Some(PreparedTop::new(gpu, &self.problem).await?),
            },
            top_processed: match self.problem.top_log_probabilities {
                0 => None,
                _ => Some(gpu.pipeline(&form.top_processed()).await?),
            },
            rest: gpu.pipeline(&form.rest()).await?,
            sample: gpu.pipeline(&form.sample()).await?,
            finalise: gpu.pipeline(&kernels::finalise()).await?,
        };
        together.end().await?;
        Ok(prepared)
    }
}

/// A compiled plan.
#[derive(Clone, Debug)]
pub struct PreparedVerify {
    pub(super) plan: VerifyPlan,
    pub(super) mark: Option<Arc<Pipeline>>,
    pub(super) rows: Arc<Pipeline>,
    pub(super) draft_rows: Option<Arc<Pipeline>>,
    pub(super) merge: Arc<Pipeline>,
    pub(super) cuts: Vec<Arc<Pipeline>>,
    pub(super) draft_cuts: Vec<Arc<Pipeline>>,
    pub(super) children: Arc<Pipeline>,
    pub(super) joint: [Arc<Pipeline>; 3],
    pub(super) walk: Arc<Pipeline>,
    pub(super) check: Arc<Pipeline>,
    pub(super) top: Option<PreparedTop>,
    pub(super) top_processed: Option<Arc<Pipeline>>,
    pub(super) rest: Arc<Pipeline>,
    pub(super) sample: Arc<Pipeline>,
    pub(super) finalise: Arc<Pipeline>,
}
