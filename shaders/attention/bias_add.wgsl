// An additive bias on the scores, f32, [sequence, head, query, key] with any strides; 0 broadcasts.
// Below MASKED, so also at -inf, it hides the key.

@group(0) @binding(BIAS_BINDING) var<storage, read> biases: array<f32>;

fn with_bias(score: f32, row: Row, key: u32) -> f32 {
    let at = row.sequence * params.bias_batch + row.head * params.bias_head
        + row.query * params.bias_query + key;
    return fma(max(biases[min(at, params.bias_size - 1u)], MASKED), LOG2_E, score);
}
