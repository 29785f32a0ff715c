//! The same mathematics on the CPU, in f64: the oracle of every kernel test.
//!
//! Each file is the twin of one kernel file and carries its name. The functions take slices of any
//! element type that widens to `f64` without loss ([`Element`]: `f32`, `f64`, [`half::f16`],
//! [`half::bf16`]), work in `f64` with loops that read like the paper, and return new vectors. They are
//! written to be believed, not to be fast.
//!
//! ```
//! use sunfleck::reference::attention::{AttentionOptions, AttentionShape, Mask, attention};
//!
//! let shape = AttentionShape {
//!     batch: 1, query_heads: 1, kv_heads: 1, queries: 1, keys: 2, head_dim: 1, value_dim: 1,
//! };
//! // Equal scores: the output is the mean of the values, and the LSE is the logarithm of two.
//! let options = AttentionOptions { mask: Mask::Causal, ..AttentionOptions::default() };
//! let result = attention(&shape, &[0.0f32], &[1.0f32, 2.0], &[10.0f32, 20.0], &options)?;
//! assert_eq!(result.output, [15.0]);
//! assert_eq!(result.lse, [2f64.ln()]);
//! # Ok::<(), sunfleck::reference::ReferenceError>(())
//! ```

pub mod activation;
pub mod attention;
pub mod blocks;
pub mod cache;
pub mod compare;
#[cfg(feature = "generate")]
pub mod decoder;
#[cfg(feature = "generate")]
pub mod draft;
pub mod embedding;
pub mod linear;
pub mod norm;
pub mod philox;
pub mod quantised;
pub mod reduce;
pub mod rope;
pub mod storage;
pub mod tree;
pub mod verify;

/// A number that widens to `f64` without loss.
pub trait Element: Copy + Into<f64> {}

impl<T: Copy + Into<f64>> Element for T {}

/// Why a reference computation was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// A slice does not have the length that the shape asks for.
    #[error(
        "`{tensor}` needs {needed} elements {axes} but was given {given}; \
         pass a slice of exactly that length or correct the shape"
    )]
    Length {
        /// The argument's name.
        tensor: &'static str,
        /// Its axes in the order of memory.
        axes: &'static str,
        /// How many elements the shape asks for.
        needed: usize,
        /// How many elements were passed.
        given: usize,
    },
    /// A size or option is outside what the operation is defined for.
    #[error("`{argument}` needs {needed} but was given {given}; change the argument")]
    Argument {
        /// The argument's name.
        argument: &'static str,
        /// What the operation is defined for.
        needed: &'static str,
        /// What was passed.
        given: String,
    },
}

/// The product of `sizes`; a product that overflows saturates, and so equals no slice's length.
fn elements(sizes: &[usize]) -> usize {
    sizes
        .iter()
        .fold(1, |product, &size| product.saturating_mul(size))
}

/// Refuses a slice whose length is not the product of `sizes`.
fn check_length<T>(
    tensor: &'static str,
    axes: &'static str,
    slice: &[T],
    sizes: &[usize],
) -> Result<(), ReferenceError> {
    let needed = elements(sizes);
    if slice.len() == needed {
        return Ok(());
    }
    Err(ReferenceError::Length {
        tensor,
        axes,
        needed,
        given: slice.len(),
    })
}

/// Refuses an argument unless `holds`.
fn check_argument(
    holds: bool,
    argument: &'static str,
    needed: &'static str,
    given: impl std::fmt::Display,
) -> Result<(), ReferenceError> {
    if holds {
        return Ok(());
    }
    Err(ReferenceError::Argument {
        argument,
        needed,
        given: given.to_string(),
    })
}
