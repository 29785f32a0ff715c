//! Residual blocks, the oracle of `src/draft/residual.rs`, and what Medusa makes of them.

use crate::reference::activation::silu;
use crate::reference::linear::linear;
use crate::reference::norm::rms_norm;
use crate::reference::{ReferenceError, check_length};

/// The weights of one block, dequantised.
#[derive(Debug, Clone, PartialEq)]
pub struct ResidualWeights {
    /// `[width, width]`
    pub weight: Vec<f32>,
    /// `[width]`
    pub bias: Vec<f32>,
}

/// `x + SiLU(x W^T + b)` of one row `x`, `[width]` (Cai et al. 2024, Medusa, section 2.1.1).
///
/// ```
/// use sunfleck::reference::draft::{ResidualWeights, residual};
///
/// // W x + b = (0, 1), and SiLU(1) = 0.7311.
/// let block = ResidualWeights { weight: vec![0.0, 0.0, 0.0, 0.5], bias: vec![0.0, 0.0] };
/// let y = residual(&[3.0, 2.0], &block)?;
/// assert_eq!(y[0], 3.0);
/// assert!((y[1] - 2.7310585786).abs() < 1e-9);
/// # Ok::<(), sunfleck::reference::ReferenceError>(())
/// ```
///
/// # Errors
/// [`ReferenceError`] for weights that do not fit.
pub fn residual(x: &[f64], block: &ResidualWeights) -> Result<Vec<f64>, ReferenceError> {
    let width = x.len();
    check_length("bias", "[width]", &block.bias, &[width])?;
    let bias: Vec<f64> = block.bias.iter().map(|&b| f64::from(b)).collect();
    let inner = linear(x, &block.weight, Some(&bias), 1, width, width)?;
    Ok(x.iter().zip(inner).map(|(x, y)| x + silu(y)).collect())
}

/// Logits of each Medusa head, `[head][token]`, from a feature `[width]` of the model: the residual stream after the
/// last layer. Norm and head, `[token, width]`, are the model's.
///
/// # Errors
/// [`ReferenceError`] for weights that do not fit.
pub fn medusa_logits(
    feature: &[f64],
    output_norm: &[f32],
    eps: f64,
    heads: &[ResidualWeights],
    head: &[f32],
) -> Result<Vec<Vec<f64>>, ReferenceError> {
    let width = feature.len();
    let normed = rms_norm(feature, output_norm, eps)?;
    let logits = |block| {
        let tokens = head.len() / width.max(1);
        linear(&residual(&normed, block)?, head, None, 1, width, tokens)
    };
    heads.iter().map(logits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_worked_by_hand() {
        // (3, 4) / 3.5355 = (0.8485, 1.1314), doubled in the second place by the norm's weight: (0.8485, 2.2627).
        let heads = [
            ResidualWeights {
                weight: vec![0.0; 4],
                bias: vec![0.0; 2],
            },
            ResidualWeights {
                weight: vec![0.0; 4],
                bias: vec![20.0, 0.0], // SiLU(20) = 20
            },
        ];
        let embedding = [1.0, 0.0, 0.0, 1.0, -1.0, -1.0];
        let logits = medusa_logits(&[3.0, 4.0], &[1.0, 2.0], 0.0, &heads, &embedding).unwrap();
        let expected = [
            [0.848_528, 2.262_742, -3.111_270],
            [20.848_528, 2.262_742, -23.111_270],
        ];
        for (own, expected) in logits.iter().flatten().zip(expected.as_flattened()) {
            assert!((own - expected).abs() < 1e-5, "{own} {expected}");
        }
        let short = ResidualWeights {
            weight: vec![0.0; 3],
            bias: vec![0.0; 2],
        };
        assert!(residual(&[1.0, 2.0], &short).is_err());
    }
}
