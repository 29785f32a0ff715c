// Embedding: y[row] = E[token of row], from a matrix in the layout of the linear layers.
// One workgroup a row; needs a weights_*.wgsl file.

const TILE_ROWS: u32 = 32u;

struct EmbedParams {
    blocks: u32,      // blocks of 32 weights in a row
    y_stride: u32,    // vec4s from one row of y to the next
    first_token: u32, // first token id of this part of the matrix
    tokens: u32,      // token ids in this part
    width: u32,       // vec4s of a row that hold data
}

struct Step {
    rows: u32,
    past: u32,
}

@group(0) @binding(0) var<uniform> params: EmbedParams;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> tokens: array<u32>; // [row]
@group(0) @binding(3) var<storage, read> quants: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>; // [row, width]

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x;
    let token = tokens[row] - params.first_token;
    // A token below first_token wraps and is left to the part that holds it, like one above.
    if row >= step.rows || token >= params.tokens {
        return;
    }
    for (var block = lane; block < params.blocks; block += WORKGROUP_X) {
        let weights = load_weights(token / TILE_ROWS, block, token % TILE_ROWS, true);
        for (var quad = 0u; quad < 8u; quad++) {
            let i = block * 8u + quad;
            if i < params.width {
                y[row * params.y_stride + i] = scaled_quad(weights, quad);
            }
        }
    }
}
