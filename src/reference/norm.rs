//! Root mean square normalisation (Zhang and Sennrich 2019).

use super::{Element, ReferenceError, check_argument, check_length};

/// `y[row, i] = x[row, i] / sqrt(mean_i x[row, i]² + epsilon) * weight[i]`.
///
/// * `x`: `[row, width]`; the number of rows follows from its length
/// * `weight`: `[width]`
///
/// # Errors
/// [`ReferenceError`] when `weight` is empty or `x` is no whole number of rows.
pub fn rms_norm(
    x: &[impl Element],
    weight: &[impl Element],
    epsilon: f64,
) -> Result<Vec<f64>, ReferenceError> {
    let width = weight.len();
    check_argument(width > 0, "weight", "at least one element", width)?;
    check_argument(
        x.len().is_multiple_of(width),
        "x",
        "a whole number of rows as wide as `weight`",
        format!("{} elements for rows of {width}", x.len()),
    )?;
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks_exact(width) {
        let sum_of_squares: f64 = row.iter().map(|&x| x.into() * x.into()).sum();
        let inverse = 1.0 / (sum_of_squares / width as f64 + epsilon).sqrt();
        y.extend(
            row.iter()
                .zip(weight)
                .map(|(&x, &w)| x.into() * inverse * w.into()),
        );
    }
    Ok(y)
}

/// As [`rms_norm`], over `rows` rows of `x + residual`; also returns the sum, which is the next
/// residual: the twin of the fused kernel.
///
/// # Errors
/// As [`rms_norm`], and when `x` and `residual` differ in length.
pub fn add_rms_norm(
    x: &[impl Element],
    residual: &[impl Element],
    weight: &[impl Element],
    epsilon: f64,
) -> Result<(Vec<f64>, Vec<f64>), ReferenceError> {
    check_length(
        "residual",
        "[row, width], as many as `x`",
        residual,
        &[x.len()],
    )?;
    let sum: Vec<f64> = x
        .iter()
        .zip(residual)
        .map(|(&x, &residual)| x.into() + residual.into())
        .collect();
    Ok((rms_norm(&sum, weight, epsilon)?, sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_normalised_one_by_one() {
        // Root mean squares: sqrt((9 + 16) / 2) and sqrt((36 + 64) / 2).
        let y = rms_norm(&[3.0f32, 4.0, 6.0, 8.0], &[1.0f32, 2.0], 0.0).unwrap();
        let root = 12.5f64.sqrt();
        let expected = [3.0 / root, 8.0 / root, 3.0 / root, 8.0 / root];
        for (y, expected) in y.iter().zip(expected) {
            assert!((y - expected).abs() < 1e-15);
        }
    }

    #[test]
    fn epsilon_keeps_a_zero_row_zero() {
        assert_eq!(
            rms_norm(&[0.0f32; 4], &[1.0f32; 4], 1e-5).unwrap(),
            [0.0; 4]
        );
    }

    #[test]
    fn fused_add_returns_the_next_residual() {
        let (y, sum) = add_rms_norm(&[1.0f32, 2.0], &[2.0f32, 2.0], &[1.0f32; 2], 0.0).unwrap();
        assert_eq!(sum, [3.0, 4.0]);
        assert_eq!(y, rms_norm(&[3.0f32, 4.0], &[1.0f32; 2], 0.0).unwrap());
    }

    #[test]
    fn ragged_rows_are_refused() {
        assert!(rms_norm(&[1.0f32; 3], &[1.0f32; 2], 0.0).is_err());
        assert!(rms_norm(&[1.0f32; 3], &[] as &[f32], 0.0).is_err());
    }
}
