//! The k likeliest tokens of a row of logits.

/// A token with its log-probability under the softmax of its row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The token.
    pub token: u32,
    /// Its natural log-probability, at most 0.
    pub log_probability: f64,
}

/// The k largest of `logits`, best first, ties to the lower id; fewer where there are fewer numbers. NaN and
/// -inf are no candidates and have no probability; infinity counts as the largest finite number.
///
/// ```
/// use sunfleck::reference::tree::top_k;
///
/// let best = top_k(&[0.0, 2.0, f32::NAN, 2.0], 2);
/// assert_eq!((best[0].token, best[1].token), (1, 3));
/// ```
pub fn top_k(logits: &[f32], k: usize) -> Vec<Candidate> {
    let mut numbers: Vec<(u32, f64)> = (0..)
        .zip(logits)
        .filter(|(_, x)| !x.is_nan() && **x != f32::NEG_INFINITY)
        .map(|(token, x)| (token, f64::from(x.min(f32::MAX))))
        .collect();
    // Infinity still beats the largest finite number.
    let is_infinite = |token: u32| logits[token as usize] == f32::INFINITY;
    numbers.sort_by(|a, b| {
        let by_number = b.1.total_cmp(&a.1);
        let zeros = a.1 == b.1;
        let by_number = if zeros {
            std::cmp::Ordering::Equal
        } else {
            by_number
        };
        by_number
            .then(is_infinite(b.0).cmp(&is_infinite(a.0)))
            .then(a.0.cmp(&b.0))
    });
    let Some(&(_, largest)) = numbers.first() else {
        return Vec::new();
    };
    let mass: f64 = numbers.iter().map(|(_, x)| (x - largest).exp()).sum();
    numbers
        .iter()
        .take(k)
        .map(|&(token, x)| Candidate {
            token,
            log_probability: (x - largest - mass.ln()).min(0.0),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_those_of_the_softmax() {
        // 1/2, 1/4, 1/4.
        let best = top_k(&[1.0, 1.0 + std::f32::consts::LN_2, 1.0], 2);
        assert_eq!((best[0].token, best[1].token), (1, 0));
        assert!((best[0].log_probability - 0.5f64.ln()).abs() < 1e-7);
        assert!((best[1].log_probability - 0.25f64.ln()).abs() < 1e-7);
    }

    #[test]
    fn only_numbers_are_candidates_and_zeros_are_equal() {
        let best = top_k(&[f32::NAN, -0.0, f32::NEG_INFINITY, 0.0], 4);
        let tokens: Vec<u32> = best.iter().map(|c| c.token).collect();
        assert_eq!(tokens, [1, 3]);
        assert!(top_k(&[f32::NAN, f32::NEG_INFINITY], 4).is_empty());
        let best = top_k(&[f32::MAX, f32::INFINITY, 0.0], 2);
        assert_eq!((best[0].token, best[1].token), (1, 0));
    }
}
