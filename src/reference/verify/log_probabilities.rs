//! How likely the kept tokens were.

use super::Verified;
use super::processing::softmax;
use crate::reference::Element;

/// The natural logarithm of a kept token's probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLogProbability {
    /// Under the softmax of the model's logits as they are.
    pub raw: f64,
    /// Under the distribution after penalties, mask, temperature and cuts.
    pub processed: f64,
}

/// Of each kept token, at the node where it was chosen. `logits` and `target` are `[node, vocabulary]`,
/// the model's rows before and after processing.
pub fn log_probabilities(
    verified: &Verified,
    vocabulary: usize,
    logits: &[impl Element],
    target: &[f64],
) -> Vec<TokenLogProbability> {
    verified
        .path
        .iter()
        .zip(&verified.tokens)
        .map(|(node, token)| {
            let row = *node as usize * vocabulary..(*node as usize + 1) * vocabulary;
            TokenLogProbability {
                raw: softmax(&logits[row.clone()])[*token as usize].ln(),
                processed: target[row][*token as usize].ln(),
            }
        })
        .collect()
}

/// The `count` likeliest tokens of a row of logits with the logarithms of their probabilities, the lower
/// id first where equal.
pub fn top_log_probabilities(logits: &[impl Element], count: usize) -> Vec<(u32, f64)> {
    let p = softmax(logits);
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[b].total_cmp(&p[a]).then(a.cmp(&b)));
    order.truncate(count);
    order.into_iter().map(|y| (y as u32, p[y].ln())).collect()
}
