// What the passes share that draw children from rows of draft logits: softmax(logits / temperature), of the top_k
// likeliest tokens where there is a top_k. The largest of z + G, with a Gumbel number G for each token, is a token
// drawn from softmax(z), and the c largest are c tokens drawn without replacement, in order (Kool et al. 2019).

struct DrawParams {
    vocabulary: u32,
    row_stride: u32, // logits from one row to the next
    logit_rows: u32, // rows of a request
    rows: u32,       // nodes of a request that may have children in this level
    draws: u32,      // independent draws of a node
    k: u32,          // tokens of a draw
    blocks: u32,     // blocks of a row
    depth: u32,      // of the children
    noisy: u32,      // 0: the likeliest tokens, for the cut of top_k
    cut: u32,        // likeliest tokens that were listed for it; 0: no request has a top_k
}

struct DrawRequest {
    seed: vec2<u32>,
    temperature: f32,
    top_k: u32, // 0: all
}

@group(0) @binding(0) var<uniform> params: DrawParams;

// Where the list of a draw begins, in units of what a list has.
fn list_of(request: u32, row_draw: u32) -> u32 {
    return request * params.rows * params.draws + row_draw;
}
