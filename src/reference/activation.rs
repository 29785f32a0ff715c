//! SiLU and SwiGLU.

use super::{Element, ReferenceError, check_length};

/// `x * sigmoid(x)` (Elfwing et al. 2017; also called swish).
pub fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

/// `silu(gate) * up`, element by element (Shazeer 2020).
///
/// # Errors
/// [`ReferenceError::Length`] when the two differ in length.
pub fn swiglu(gate: &[impl Element], up: &[impl Element]) -> Result<Vec<f64>, ReferenceError> {
    check_length("up", "[row, column], as many as `gate`", up, &[gate.len()])?;
    Ok(gate
        .iter()
        .zip(up)
        .map(|(&gate, &up)| silu(gate.into()) * up.into())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silu_has_its_known_values() {
        assert_eq!(silu(0.0), 0.0);
        assert!((silu(1.0) - 0.731_058_578_630_004_9).abs() < 1e-15);
        assert!((silu(-1.0) + 0.268_941_421_369_995_1).abs() < 1e-15);
    }

    #[test]
    fn silu_is_finite_far_from_zero() {
        assert_eq!(silu(1e4), 1e4);
        // exp(1e4) is infinite: the quotient is zero, not NaN.
        assert_eq!(silu(-1e4), 0.0);
    }

    #[test]
    fn swiglu_refuses_halves_of_different_length() {
        assert!(swiglu(&[1.0f32], &[1.0f32, 2.0]).is_err());
    }
}
