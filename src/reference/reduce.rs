//! Argmax over a row of logits.

use super::{Element, ReferenceError, check_argument};

/// The id of a row that holds no number.
pub const NO_ID: u32 = u32::MAX;

/// The index of the largest element. Ties go to the lowest index. NaN never wins: it loses even to
/// `-inf`. `None` when the row is empty or all NaN.
pub fn argmax(row: &[impl Element]) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (index, &value) in row.iter().enumerate() {
        let value: f64 = value.into();
        let wins = match best {
            Some((_, best)) => value > best,
            None => !value.is_nan(),
        };
        if wins {
            best = Some((index, value));
        }
    }
    best.map(|(index, _)| index)
}

/// [`argmax`] of every row of `x` `[row, width]`; [`NO_ID`] for a row of NaN.
///
/// # Errors
/// [`ReferenceError::Argument`] when `width` is 0, above `u32::MAX`, or no divisor of `x`'s length.
pub fn argmax_rows(x: &[impl Element], width: usize) -> Result<Vec<u32>, ReferenceError> {
    check_argument(
        width > 0 && u32::try_from(width).is_ok() && x.len().is_multiple_of(width),
        "width",
        "a row width that fits u32 and divides the length of `x`",
        format!("{width} for {} elements", x.len()),
    )?;
    Ok(x.chunks_exact(width)
        .map(|row| argmax(row).map_or(NO_ID, |index| index as u32))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lowest_id() {
        assert_eq!(argmax(&[1.0f32, 3.0, 3.0, 2.0]), Some(1));
        assert_eq!(argmax(&[0.0f32, -0.0]), Some(0));
        assert_eq!(argmax(&[-0.0f32, 0.0]), Some(0));
    }

    #[test]
    fn nan_never_wins() {
        assert_eq!(argmax(&[f32::NAN, 1.0, f32::NAN, 2.0]), Some(3));
        assert_eq!(argmax(&[f32::NAN, f32::NEG_INFINITY]), Some(1));
        assert_eq!(argmax(&[f32::NAN; 3]), None);
        assert_eq!(argmax(&[] as &[f32]), None);
    }

    #[test]
    fn each_row_has_its_own_argmax() {
        let x = [1.0f32, 2.0, 5.0, 4.0, f32::NAN, f32::NAN];
        assert_eq!(argmax_rows(&x, 2).unwrap(), [1, 0, NO_ID]);
        assert!(argmax_rows(&x, 4).is_err());
        assert!(argmax_rows(&x, 0).is_err());
    }
}
