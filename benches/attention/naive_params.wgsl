// Attention in three passes over a matrix of scores in memory: the textbook's way, and the rival.
// Some heads at a time, since the scores of all would not fit a buffer.

struct Params {
    queries: u32,
    keys: u32,
    heads: u32,      // query heads of the whole problem
    group: u32,      // query heads of one KV head
    quads: u32,      // vec4s of a head
    first_head: u32, // of the heads whose scores are in memory
    causal: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;

// Keys that a query sees.
fn visible_keys(query: u32) -> u32 {
    return select(params.keys, params.keys + query + 1u - params.queries, params.causal != 0u);
}
