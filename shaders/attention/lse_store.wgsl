// Natural-log LSE of each row; MASKED for a row that saw no key.

@group(0) @binding(LSE_BINDING) var<storage, read_write> lse_out: array<f32>; // [sequence, query, head]

fn store_lse(row: u32, lse: f32) {
    lse_out[row] = lse;
}
