//! Why a verification on the GPU is refused.

use super::{RuleError, SamplingError};
use crate::gpu::GpuError;

/// An error of planning, binding or setting up a verification.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A size is out of its range.
    #[error("`{name}` is {given}; it must be {needed}")]
    Size {
        /// The field.
        name: &'static str,
        /// Its range.
        needed: &'static str,
        /// What was given.
        given: u32,
    },
    /// Logits in a type that only keys and values have.
    #[error("logits can't be {element}; use f32, f16 or bf16")]
    Quantised {
        /// The element type given.
        element: &'static str,
    },
    /// A rule that does not fit the draw, or has a number out of range.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// A number of the sampling options is out of range.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// A request uses what the problem was not made for.
    #[error("request {request} {problem}")]
    Request {
        /// The request.
        request: u32,
        /// What is wrong and what to do.
        problem: &'static str,
    },
    /// An argument that the problem needs is missing, or one it has no use for was given.
    #[error("argument `{name}` {problem}")]
    Argument {
        /// The argument.
        name: &'static str,
        /// What is wrong and what to do.
        problem: &'static str,
    },
    /// A view is smaller than its tensor.
    #[error("view `{name}` has {given} bytes; the problem's sizes need {needed}")]
    ViewTooSmall {
        /// The argument.
        name: &'static str,
        /// Bytes needed.
        needed: u64,
        /// Bytes given.
        given: u64,
    },
    /// Logits that have to be walked in parts, in rows that no part can begin with.
    #[error(
        "the logits pass the device's binding limit of {limit} bytes, and parts of them can't begin at \
         multiples of {alignment} bytes with rows of {row_bytes}; pad row_stride so that rows are a \
         multiple of {alignment} bytes"
    )]
    Parts {
        /// Bytes that one binding may have.
        limit: u64,
        /// Bytes at whose multiples bindings may begin.
        alignment: u64,
        /// Bytes of a row.
        row_bytes: u64,
    },
    /// The device refused a kernel, buffer or view.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}
