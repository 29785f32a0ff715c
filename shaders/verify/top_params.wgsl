// What the passes share that list the likeliest tokens where each kept token was chosen. The outcome has the kept
// nodes: see verify/walk.wgsl. After its arrays of N follow N lists of L tokens, then their log-probabilities under the raw
// logits, then those under the processed ones.

struct TopParams {
    vocabulary: u32,
    row_stride: u32,    // elements from one row of logits to the next
    max_nodes: u32,     // N
    outcome_words: u32, // words from one outcome to the next
    top: u32,           // L
    blocks: u32,        // of BLOCK tokens
    first_row: u32,     // first row (request * N + node) of the part of the logits that is bound
    part_rows: u32,     // rows of that part
}

@group(0) @binding(0) var<uniform> params: TopParams;

// Kept nodes of a request.
fn kept_count(request: u32) -> u32 {
    return min(outcome[request * params.outcome_words], params.max_nodes - 1u) + 1u;
}

// Where what is known of rank `rank` at place `place` of the path lies: tokens, raw or processed logarithms.
fn top_word(request: u32, field: u32, place: u32, rank: u32) -> u32 {
    let n = params.max_nodes;
    return request * params.outcome_words + 2u + 4u * n + (field * n + place) * params.top + rank;
}
