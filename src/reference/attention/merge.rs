//! Partial states over disjoint sets of keys, merged: the twin of the merge kernel.

use super::AttentionOutput;
use crate::reference::{ReferenceError, check_length};

/// Merges partial states over disjoint sets of keys into the state over their union.
///
/// With `LSE = ln(sum_i exp LSE_i)`, `O = sum_i exp(LSE_i - LSE) O_i`. A state whose LSE is `-inf`
/// saw no key and is neutral; the merge of none is empty.
///
/// # Errors
/// [`ReferenceError::Length`] when the states differ in length, or an output is no whole number of
/// values a row.
pub fn merge_states(states: &[AttentionOutput]) -> Result<AttentionOutput, ReferenceError> {
    let rows = states.first().map_or(0, |state| state.lse.len());
    let columns = states
        .first()
        .map_or(0, |state| state.output.len().checked_div(rows).unwrap_or(0));
    for state in states {
        check_length("lse", "[row]", &state.lse, &[rows])?;
        check_length(
            "output",
            "[row, value_dim]",
            &state.output,
            &[rows, columns],
        )?;
    }
    let mut merged = AttentionOutput {
        output: vec![0.0; rows * columns],
        lse: vec![f64::NEG_INFINITY; rows],
    };
    for row in 0..rows {
        let row_lse: Vec<f64> = states.iter().map(|state| state.lse[row]).collect();
        let lse = log_sum_exp(&row_lse);
        merged.lse[row] = lse;
        for (state, partial) in states.iter().zip(row_lse) {
            if partial == f64::NEG_INFINITY {
                continue;
            }
            let weight = (partial - lse).exp();
            for column in 0..columns {
                let element = row * columns + column;
                merged.output[element] += weight * state.output[element];
            }
        }
    }
    Ok(merged)
}

/// `ln(sum exp x)`, shifted by the maximum; `-inf` when there is no term above `-inf`.
pub fn log_sum_exp(terms: &[f64]) -> f64 {
    let maximum = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if maximum == f64::NEG_INFINITY && !terms.iter().any(|term| term.is_nan()) {
        return f64::NEG_INFINITY;
    }
    maximum
        + terms
            .iter()
            .map(|term| (term - maximum).exp())
            .sum::<f64>()
            .ln()
}
