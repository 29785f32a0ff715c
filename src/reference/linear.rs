//! Linear layers: `y = x Wᵀ`, with a residual added or two of them joined by SwiGLU.

use super::activation::swiglu;
use super::{Element, ReferenceError, check_argument, check_length};

/// `y[row, out] = sum_in x[row, in] W[out, in] (+ residual[row, out])`.
///
/// * `x`: `[row, in]`
/// * `weight`: `[out, in]`, dequantised (see [`dequantise`](super::blocks::dequantise))
/// * `residual`: `[row, out]`
/// * returns `[row, out]`
///
/// # Errors
/// [`ReferenceError`] when a slice does not fit or `inputs` is 0.
pub fn linear(
    x: &[impl Element],
    weight: &[impl Element],
    residual: Option<&[f64]>,
    rows: usize,
    inputs: usize,
    outputs: usize,
) -> Result<Vec<f64>, ReferenceError> {
    check_argument(inputs > 0, "inputs", "at least one input", inputs)?;
    check_length("x", "[row, in]", x, &[rows, inputs])?;
    check_length("weight", "[out, in]", weight, &[outputs, inputs])?;
    if let Some(residual) = residual {
        check_length("residual", "[row, out]", residual, &[rows, outputs])?;
    }
    let mut y = Vec::with_capacity(rows * outputs);
    for row in 0..rows {
        let x = &x[row * inputs..][..inputs];
        for output in 0..outputs {
            let weight = &weight[output * inputs..][..inputs];
            let dot: f64 = x
                .iter()
                .zip(weight)
                .map(|(&x, &w)| x.into() * w.into())
                .sum();
            y.push(dot + residual.map_or(0.0, |residual| residual[row * outputs + output]));
        }
    }
    Ok(y)
}

/// The first half of a gated feed-forward layer: `silu(x W_gateᵀ) * (x W_upᵀ)` (Shazeer 2020).
///
/// * `x`: `[row, in]`
/// * `gate`, `up`: `[out, in]`, dequantised
/// * returns `[row, out]`
///
/// # Errors
/// As [`linear`].
pub fn linear_swiglu(
    x: &[impl Element],
    gate: &[impl Element],
    up: &[impl Element],
    rows: usize,
    inputs: usize,
    outputs: usize,
) -> Result<Vec<f64>, ReferenceError> {
    let gate = linear(x, gate, None, rows, inputs, outputs)?;
    let up = linear(x, up, None, rows, inputs, outputs)?;
    swiglu(&gate, &up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_weight_are_outputs() {
        let x = [1.0f32, 2.0, 3.0, 4.0];
        let weight = [1.0f32, 0.0, 0.0, 1.0, 10.0, 100.0];
        let y = linear(&x, &weight, None, 2, 2, 3).unwrap();
        assert_eq!(y, [1.0, 2.0, 210.0, 3.0, 4.0, 430.0]);
    }

    #[test]
    fn residual_is_added_after_the_product() {
        let y = linear(&[2.0f64], &[3.0f64], Some(&[0.5]), 1, 1, 1).unwrap();
        assert_eq!(y, [6.5]);
    }

    #[test]
    fn fused_swiglu_equals_its_parts() {
        let y = linear_swiglu(&[2.0f64], &[1.0f64], &[3.0f64], 1, 1, 1).unwrap();
        assert_eq!(y, [2.0 / (1.0 + (-2f64).exp()) * 6.0]);
    }

    #[test]
    fn wrong_length_names_the_tensor() {
        let error = linear(&[1.0f32], &[1.0f32, 2.0], None, 1, 1, 1).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("`weight` needs 1 elements [out, in]")
        );
        assert!(linear(&[1.0f32], &[1.0f32], None, usize::MAX, usize::MAX, 1).is_err());
    }
}
