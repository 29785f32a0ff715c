//! Logits into the distribution that is sampled from: the twin of `verify/rows.wgsl`.
//!
//! Every cut keeps a beginning of the tokens in the order of likelihood (the lower id first where equal),
//! so all of them together are one cut-off, which is how kernels keep it.

use crate::reference::Element;
use crate::verify::Sampling;

/// The distribution after `logits`, `[vocabulary]`.
///
/// `occurred` are the tokens that penalties look at: the committed ones and those on the path to the
/// node. `grammar` has one bit a token, bit `y % 32` of word `y / 32`; tokens whose bit is 0, or past its
/// end, are forbidden. A NaN counts as -inf and +inf as the largest finite number. The result is all 0
/// when no token is left.
///
/// ```
/// use sunfleck::{reference::verify::processing::distribution, verify::Sampling};
///
/// let sampling = Sampling { top_k: 2, ..Sampling::default() };
/// assert_eq!(distribution(&[1.0f32, 5.0, 5.0, 5.0], &sampling, &[], None), [0.0, 0.5, 0.5, 0.0]);
/// ```
pub fn distribution(
    logits: &[impl Element],
    sampling: &Sampling,
    occurred: &[u32],
    grammar: Option<&[u32]>,
) -> Vec<f64> {
    let mut logits: Vec<f64> = logits.iter().map(|&logit| finite(logit.into())).collect();
    let mut seen = vec![false; logits.len()];
    for &token in occurred {
        // Once, however often the token occurred.
        let Some(seen) = seen.get_mut(token as usize) else {
            continue;
        };
        if !std::mem::replace(seen, true) {
            let logit = &mut logits[token as usize];
            *logit = penalised(*logit, sampling);
        }
    }
    for (token, logit) in logits.iter_mut().enumerate() {
        let allowed = grammar.is_none_or(|bits| {
            let word = bits.get(token / 32).copied().unwrap_or(0);
            word >> (token % 32) & 1 == 1
        });
        *logit = if allowed {
            *logit / f64::from(sampling.temperature)
        } else {
            f64::NEG_INFINITY
        };
    }
    let p = softmax(&logits);
    let mut order: Vec<usize> = (0..p.len()).filter(|&y| p[y] > 0.0).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    if sampling.top_k > 0 {
        order.truncate(sampling.top_k as usize);
    }
    // Top-p cuts what top-k left, normalised.
    let mass: f64 = order.iter().map(|&y| p[y]).sum();
    let mut before = 0.0;
    let kept = order
        .iter()
        .take_while(|&&y| {
            let keep = before < f64::from(sampling.top_p) * mass;
            before += p[y];
            keep
        })
        .count();
    order.truncate(if sampling.top_p < 1.0 {
        kept
    } else {
        order.len()
    });
    // Min-p is a ratio to the likeliest: normalising changes nothing.
    let bar = order.first().map_or(0.0, |&y| p[y]) * f64::from(sampling.min_p);
    order.retain(|&y| p[y] >= bar);
    let mass: f64 = order.iter().map(|&y| p[y]).sum();
    let mut kept = vec![0.0; p.len()];
    for y in order {
        kept[y] = p[y] / mass;
    }
    kept
}

/// The softmax of a row; all 0 when no element is above -inf.
pub fn softmax(logits: &[impl Element]) -> Vec<f64> {
    let logits: Vec<f64> = logits.iter().map(|&logit| finite(logit.into())).collect();
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        return vec![0.0; logits.len()];
    }
    let e: Vec<f64> = logits.iter().map(|logit| (logit - max).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.into_iter().map(|e| e / sum).collect()
}

/// A number that arithmetic can go on with.
fn finite(logit: f64) -> f64 {
    if logit.is_nan() {
        return f64::NEG_INFINITY;
    }
    logit.min(f64::from(f32::MAX))
}

fn penalised(logit: f64, sampling: &Sampling) -> f64 {
    let repetition = f64::from(sampling.repetition_penalty);
    let scaled = if logit > 0.0 {
        logit / repetition
    } else {
        logit * repetition
    };
    scaled - f64::from(sampling.presence_penalty)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f64; 4] = [0.0, 1.0, 2.0, 3.0];

    fn with(change: impl FnOnce(&mut Sampling)) -> Vec<f64> {
        let mut sampling = Sampling::default();
        change(&mut sampling);
        distribution(&LOGITS, &sampling, &[], None)
    }

    fn close(a: &[f64], b: &[f64]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12)
    }

    /// A softmax by hand over the tokens that stay.
    fn soft(kept: &[f64]) -> Vec<f64> {
        let e: Vec<f64> = kept.iter().map(|x| x.exp()).collect();
        e.iter().map(|x| x / e.iter().sum::<f64>()).collect()
    }

    const NO: f64 = f64::NEG_INFINITY;

    #[test]
    fn without_options_it_is_the_softmax() {
        assert!(close(&with(|_| ()), &soft(&LOGITS)));
    }

    #[test]
    fn temperature_divides() {
        let p = with(|s| s.temperature = 0.5);
        assert!(close(&p, &soft(&[0.0, 2.0, 4.0, 6.0])));
    }

    #[test]
    fn top_k_keeps_the_likeliest_and_the_lower_of_equal_ones() {
        assert!(close(&with(|s| s.top_k = 2), &soft(&[NO, NO, 2.0, 3.0])));
        assert!(close(&with(|s| s.top_k = 99), &soft(&LOGITS)));
        let sampling = Sampling {
            top_k: 1,
            ..Sampling::default()
        };
        assert_eq!(distribution(&[2.0, 2.0], &sampling, &[], None), [1.0, 0.0]);
    }

    #[test]
    fn top_p_keeps_the_fewest_tokens_that_reach_it() {
        // 0.644, 0.881, 0.968, 1: the first reaches 0.6, two reach 0.7.
        assert!(close(&with(|s| s.top_p = 0.6), &[0.0, 0.0, 0.0, 1.0]));
        assert!(close(&with(|s| s.top_p = 0.7), &soft(&[NO, NO, 2.0, 3.0])));
        assert!(close(&with(|s| s.top_p = 1e-9), &[0.0, 0.0, 0.0, 1.0]));
        // After top-k 2 the first alone has 0.731.
        let p = with(|s| (s.top_k, s.top_p) = (2, 0.7));
        assert!(close(&p, &[0.0, 0.0, 0.0, 1.0]));
    }

    #[test]
    fn min_p_is_a_ratio_to_the_likeliest() {
        // exp(-1) = 0.368, exp(-2) = 0.135.
        assert!(close(&with(|s| s.min_p = 0.3), &soft(&[NO, NO, 2.0, 3.0])));
        assert!(close(&with(|s| s.min_p = 1.0), &[0.0, 0.0, 0.0, 1.0]));
    }

    #[test]
    fn penalties_look_at_each_occurred_token_once() {
        let sampling = Sampling {
            repetition_penalty: 2.0,
            presence_penalty: 0.5,
            ..Sampling::default()
        };
        let p = distribution(&[-1.0, 1.0, 2.0], &sampling, &[0, 2, 2, 99], None);
        assert!(close(&p, &soft(&[-2.5, 1.0, 0.5])));
    }

    #[test]
    fn grammar_forbids_tokens_before_the_cuts() {
        let sampling = Sampling {
            top_k: 1,
            ..Sampling::default()
        };
        let p = distribution(&LOGITS, &sampling, &[], Some(&[0b0111]));
        assert_eq!(p, [0.0, 0.0, 1.0, 0.0]);
        let none = distribution(&LOGITS, &sampling, &[], Some(&[]));
        assert_eq!(none, [0.0; 4]);
    }

    #[test]
    fn what_is_no_number_has_no_probability() {
        let sampling = Sampling::default();
        let p = distribution(&[f64::NAN, 0.0, f64::NEG_INFINITY], &sampling, &[], None);
        assert_eq!(p, [0.0, 1.0, 0.0]);
        let infinite = [f64::INFINITY, 0.0, f64::INFINITY];
        assert_eq!(
            distribution(&infinite, &sampling, &[], None),
            [0.5, 0.0, 0.5]
        );
        assert_eq!(distribution(&[f64::NAN], &sampling, &[], None), [0.0]);
    }
}
