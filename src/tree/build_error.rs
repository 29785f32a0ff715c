//! Why a tree is not built on the GPU.

use crate::gpu::GpuError;

/// An error of setting up a builder of draft trees on the GPU.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeBuildError {
    /// A size is out of its range.
    #[error("`{name}` is {given}; it must be {needed}")]
    Size {
        /// The argument.
        name: &'static str,
        /// Its range.
        needed: &'static str,
        /// What was given.
        given: u64,
    },
    /// A shortened vocabulary names a token twice, or one that the model does not have.
    #[error(
        "entry {entry} of the draft vocabulary is token {token}, which {problem}; give every draft id a token \
         of its own"
    )]
    TokenMap {
        /// The draft id.
        entry: usize,
        /// The token it stands for.
        token: u32,
        /// What is wrong.
        problem: &'static str,
    },
    /// A temperature that divides nothing.
    #[error("the temperature is {given}; it must be finite and above 0")]
    Temperature {
        /// What was given.
        given: f32,
    },
    /// A view is smaller than its tensor.
    #[error("view `{name}` has {given} bytes; the sizes need {needed}")]
    ViewTooSmall {
        /// The argument.
        name: &'static str,
        /// Bytes needed.
        needed: u64,
        /// Bytes given.
        given: u64,
    },
    /// A list of paths that is no tree.
    #[error(transparent)]
    Tree(#[from] crate::tree::TreeError),
    /// The device refused a kernel, buffer or view.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

/// Refuses a size unless `holds`.
pub(super) fn check_size(
    name: &'static str,
    needed: &'static str,
    given: u64,
    holds: bool,
) -> Result<(), TreeBuildError> {
    match holds {
        true => Ok(()),
        false => Err(TreeBuildError::Size {
            name,
            needed,
            given,
        }),
    }
}

/// Refuses a view that is smaller than its tensor.
pub(super) fn check_view(
    name: &'static str,
    given: u64,
    needed: u64,
) -> Result<(), TreeBuildError> {
    match given >= needed {
        true => Ok(()),
        false => Err(TreeBuildError::ViewTooSmall {
            name,
            needed,
            given,
        }),
    }
}
