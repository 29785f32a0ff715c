// What the two passes of the top-k share: rows of logits, `rows` of each request.

struct TopKParams {
    vocabulary: u32,   // logits of a row
    row_stride: u32,   // f32s from one row to the next
    rows: u32,         // rows of a request that are looked at
    request_rows: u32, // rows from one request's first to the next request's
    first_row: u32,    // rows of a request before the first that is looked at
    k: u32,
    blocks: u32,       // blocks of a row
    mapped: u32,       // whether a draft id stands for the token in the map
}

@group(0) @binding(0) var<uniform> params: TopKParams;
