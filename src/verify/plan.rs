//! A problem turned into kernels.

use std::sync::Arc;

use super::{VerifyError, VerifyProblem, kernels};
use crate::gpu::{Gpu, Pipeline};

/// A planned problem: sizes and limits checked, nothing compiled yet.
#[derive(Clone, Debug)]
pub struct VerifyPlan {
    gpu: Gpu,
    problem: VerifyProblem,
    part_rows: u64,
}

/// Rows of logits that one binding takes: all of them where they fit, else as many as end where another
/// binding may begin.
fn part_rows(gpu: &Gpu, problem: &VerifyProblem) -> Result<u64, VerifyError> {
    let limits = &gpu.capabilities().limits;
    let most = u64::from(limits.max_compute_workgroups_per_dimension);
    let fitting = (limits.max_storage_buffer_binding_size / problem.row_bytes()).min(most);
    if fitting >= problem.rows() {
        return Ok(problem.rows());
    }
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
        for kernel in kernels::variants() {
            kernel.check(self.capabilities())?;
        }
        Ok(VerifyPlan {
            gpu: self.clone(),
            problem: *problem,
            part_rows: part_rows(self, problem)?,
        })
    }
}

impl VerifyPlan {
    pub(super) fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The problem that was planned.
    pub fn problem(&self) -> &VerifyProblem {
        &self.problem
    }

    /// Rows of the target's logits that are bound at a time: all of them, where one binding takes them.
    pub fn part_rows(&self) -> u64 {
        self.part_rows
    }

    /// Compiles the kernels, once a device.
    ///
    /// # Errors
    /// [`GpuError::Compile`](crate::gpu::GpuError::Compile).
    pub async fn prepare(&self) -> Result<PreparedVerify, VerifyError> {
        let element = self.problem.element;
        Ok(PreparedVerify {
            plan: self.clone(),
            rows: self.gpu.pipeline(&kernels::rows(element)).await?,
            children: self.gpu.pipeline(&kernels::children(element)).await?,
            joint: self.gpu.pipeline(&kernels::joint(element)).await?,
            walk: self.gpu.pipeline(&kernels::walk()).await?,
            sample: self.gpu.pipeline(&kernels::sample(element)).await?,
            finalise: self.gpu.pipeline(&kernels::finalise()).await?,
        })
    }
}

/// A compiled plan.
#[derive(Clone, Debug)]
pub struct PreparedVerify {
    pub(super) plan: VerifyPlan,
    pub(super) rows: Arc<Pipeline>,
    pub(super) children: Arc<Pipeline>,
    pub(super) joint: Arc<Pipeline>,
    pub(super) walk: Arc<Pipeline>,
    pub(super) sample: Arc<Pipeline>,
    pub(super) finalise: Arc<Pipeline>,
}
