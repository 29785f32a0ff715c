//! The one tolerance rule of all kernel tests.
//!
//! A kernel's result is accepted when its normalised mean squared error against the f64 twin is small,
//! `NMSE = sum (x - r)² / sum r²`, and no single element is far off, so that one wrong element among
//! many thousands can't hide in the mean.

use super::Element;

/// Sum of squared differences over the sum of squares of the reference.
///
/// 0 when both are zero; `+inf` when the reference is zero and the result is not, and for slices of
/// different length; NaN when either holds a NaN.
pub fn nmse(result: &[impl Element], reference: &[impl Element]) -> f64 {
    if result.len() != reference.len() {
        return f64::INFINITY;
    }
    let (mut error, mut power) = (0.0, 0.0);
    for (&result, &reference) in result.iter().zip(reference) {
        let (result, reference): (f64, f64) = (result.into(), reference.into());
        // Equal infinities (the LSE of a masked row) are no error; their difference would be NaN.
        if result != reference {
            error += (result - reference) * (result - reference);
        }
        if !reference.is_infinite() {
            power += reference * reference;
        }
    }
    if error == 0.0 { 0.0 } else { error / power }
}

/// The largest absolute difference and where it is; NaN anywhere wins. `None` when both are empty or
/// the lengths differ.
pub fn max_abs_error(result: &[impl Element], reference: &[impl Element]) -> Option<(usize, f64)> {
    if result.len() != reference.len() {
        return None;
    }
    let mut worst: Option<(usize, f64)> = None;
    for (index, (&result, &reference)) in result.iter().zip(reference).enumerate() {
        let (result, reference): (f64, f64) = (result.into(), reference.into());
        let error = if result == reference {
            0.0
        } else {
            (result - reference).abs()
        };
        if error.is_nan() {
            return Some((index, error));
        }
        if worst.is_none_or(|(_, worst)| error > worst) {
            worst = Some((index, error));
        }
    }
    worst
}

/// How far a result may be from its reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Largest normalised mean squared error over the whole tensor.
    pub nmse: f64,
    /// Largest error of one element, in units of the reference's root mean square.
    pub element: f64,
}

impl Tolerance {
    /// For kernels whose inputs lie in f32.
    pub const F32: Tolerance = Tolerance {
        nmse: 1e-6,
        element: 1e-2,
    };

    /// The NMSE bound `nmse`, and ten standard deviations of it for one element.
    pub fn from_nmse(nmse: f64) -> Tolerance {
        Tolerance {
            nmse,
            element: 10.0 * nmse.sqrt(),
        }
    }

    /// Twice the error of a naive kernel of the same storage precision (the rule of FlashAttention's
    /// tests), and never tighter than [`Tolerance::F32`]. `naive` is its result, `reference` that of
    /// the f64 twin.
    pub fn twice_naive(naive: &[impl Element], reference: &[impl Element]) -> Tolerance {
        // Twice the error is four times its square.
        let nmse = 4.0 * nmse(naive, reference);
        let worst = max_abs_error(naive, reference).map_or(0.0, |(_, error)| error);
        let element = 2.0 * worst / root_mean_square(reference);
        Tolerance {
            nmse: nmse.max(Self::F32.nmse),
            element: element.max(Self::F32.element),
        }
    }
}

/// A result that is too far from its reference.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// The two have different lengths.
    #[error("{what}: {reference} elements are needed but the result has {result}")]
    Length {
        /// What was compared.
        what: String,
        /// Elements of the result.
        result: usize,
        /// Elements of the reference.
        reference: usize,
    },
    /// An element is NaN, or infinite where the reference is not (or the other way round).
    #[error("{what}: element {index} is {result} where the reference is {reference}")]
    NotFinite {
        /// What was compared.
        what: String,
        /// Where.
        index: usize,
        /// The kernel's value.
        result: f64,
        /// The twin's value.
        reference: f64,
    },
    /// An error is above its bound.
    #[error(
        "{what}: NMSE {nmse:.3e} (at most {}), worst element {index} is {result:e} where the \
         reference is {reference:e}, off by {error:.3e} root mean squares (at most {})",
        tolerance.nmse, tolerance.element
    )]
    TooFar {
        /// What was compared.
        what: String,
        /// The normalised mean squared error.
        nmse: f64,
        /// The worst element.
        index: usize,
        /// The kernel's value there.
        result: f64,
        /// The twin's value there.
        reference: f64,
        /// Its error in root mean squares of the reference.
        error: f64,
        /// The bounds.
        tolerance: Tolerance,
    },
}

/// Accepts `result` when it is within `tolerance` of `reference`; `what` names the comparison in the
/// error. Infinities must be equal, and a NaN is never accepted.
///
/// # Errors
/// [`Mismatch`], which tells the worst element.
pub fn compare(
    what: &str,
    result: &[impl Element],
    reference: &[impl Element],
    tolerance: Tolerance,
) -> Result<(), Mismatch> {
    if result.len() != reference.len() {
        return Err(Mismatch::Length {
            what: what.into(),
            result: result.len(),
            reference: reference.len(),
        });
    }
    for (index, (&result, &reference)) in result.iter().zip(reference).enumerate() {
        let (result, reference): (f64, f64) = (result.into(), reference.into());
        if result != reference && !(result.is_finite() && reference.is_finite()) {
            return Err(Mismatch::NotFinite {
                what: what.into(),
                index,
                result,
                reference,
            });
        }
    }
    let Some((index, worst)) = max_abs_error(result, reference) else {
        return Ok(());
    };
    let nmse = nmse(result, reference);
    let error = if worst == 0.0 {
        0.0
    } else {
        worst / root_mean_square(reference)
    };
    // An all-zero reference has no scale: anything but zeros is infinitely far.
    if nmse <= tolerance.nmse && error <= tolerance.element {
        return Ok(());
    }
    Err(Mismatch::TooFar {
        what: what.into(),
        nmse,
        index,
        result: result[index].into(),
        reference: reference[index].into(),
        error,
        tolerance,
    })
}

/// Root mean square of the finite elements; 0 when there are none.
fn root_mean_square(values: &[impl Element]) -> f64 {
    let (mut power, mut count) = (0.0, 0usize);
    for &value in values {
        let value: f64 = value.into();
        if value.is_finite() {
            power += value * value;
            count += 1;
        }
    }
    if count == 0 {
        0.0
    } else {
        (power / count as f64).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nmse_is_relative_power() {
        assert_eq!(nmse(&[1.1f64, 0.0], &[1.0f64, 0.0]), (1.1f64 - 1.0).powi(2));
        assert_eq!(nmse(&[0.0f32], &[0.0f32]), 0.0);
        assert_eq!(nmse(&[1.0f32], &[0.0f32]), f64::INFINITY);
        assert_eq!(nmse(&[1.0f32], &[1.0f32, 2.0]), f64::INFINITY);
    }

    #[test]
    fn equal_infinities_are_no_error() {
        let lse = [f64::NEG_INFINITY, 1.0];
        assert_eq!(compare("lse", &lse, &lse, Tolerance::F32), Ok(()));
    }

    #[test]
    fn nan_is_never_accepted() {
        let loose = Tolerance {
            nmse: f64::MAX,
            element: f64::MAX,
        };
        assert!(matches!(
            compare("o", &[1.0, f32::NAN], &[1.0f64, 2.0], loose),
            Err(Mismatch::NotFinite { index: 1, .. })
        ));
        assert!(compare("o", &[f32::NAN], &[f64::NAN], loose).is_err());
        assert!(compare("o", &[1.0f32], &[f64::NEG_INFINITY], loose).is_err());
    }

    #[test]
    fn one_wrong_element_among_many_is_found() {
        let reference = vec![1.0f64; 1_000_000];
        let mut result = reference.clone();
        result[77] = 1.5;
        // The mean alone would accept it.
        assert!(nmse(&result, &reference) < Tolerance::F32.nmse);
        let error = compare("o", &result, &reference, Tolerance::F32).unwrap_err();
        assert!(
            error.to_string().contains("worst element 77 is 1.5e0"),
            "{error}"
        );
    }

    #[test]
    fn lengths_must_agree() {
        let error = compare("logits", &[1.0f32], &[1.0f64; 2], Tolerance::F32).unwrap_err();
        assert_eq!(
            error.to_string(),
            "logits: 2 elements are needed but the result has 1"
        );
        assert_eq!(
            compare("empty", &[] as &[f32], &[] as &[f64], Tolerance::F32),
            Ok(())
        );
    }

    #[test]
    fn zeros_are_compared_exactly() {
        assert_eq!(
            compare("o", &[0.0f32; 4], &[0.0f64; 4], Tolerance::F32),
            Ok(())
        );
        assert!(compare("o", &[1e-30f32], &[0.0f64], Tolerance::F32).is_err());
    }

    #[test]
    fn twice_the_naive_error_is_accepted_and_more_is_not() {
        let reference = [1.0f64; 8];
        let tolerance = Tolerance::twice_naive(&[1.1f64; 8], &reference);
        assert!(compare("o", &[1.19f64; 8], &reference, tolerance).is_ok());
        assert!(compare("o", &[1.21f64; 8], &reference, tolerance).is_err());
    }
}
