//! Token embedding: a gather of rows.

use super::{Element, ReferenceError, check_argument};

/// `y[token, i] = table[tokens[token], i]`.
///
/// * `table`: `[vocab, width]`, dequantised
/// * returns `[token, width]`
///
/// # Errors
/// [`ReferenceError::Argument`] when `width` does not divide the table or a token is outside it.
pub fn embedding(
    table: &[impl Element],
    tokens: &[u32],
    width: usize,
) -> Result<Vec<f64>, ReferenceError> {
    check_argument(
        width > 0 && table.len().is_multiple_of(width),
        "width",
        "a row width that divides the table",
        format!("{width} for {} elements", table.len()),
    )?;
    let vocab = table.len() / width;
    let mut y = Vec::with_capacity(tokens.len().saturating_mul(width));
    for &token in tokens {
        check_argument(
            (token as usize) < vocab,
            "tokens",
            "ids below the table's number of rows",
            format!("{token} with {vocab} rows"),
        )?;
        y.extend(
            table[token as usize * width..][..width]
                .iter()
                .map(|&x| x.into()),
        );
    }
    Ok(y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_gathered_in_token_order() {
        let table = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(embedding(&table, &[2, 0], 2).unwrap(), [5.0, 6.0, 1.0, 2.0]);
        assert!(embedding(&table, &[3], 2).is_err());
        assert!(embedding(&table, &[0], 4).is_err());
    }
}
