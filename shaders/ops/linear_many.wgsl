// Linear layer for many tokens: y[token][row] = sum_k W[row][k] * x[token][k].
//
// One workgroup computes two tiles of rows for TOKENS tokens, a block of 32 weights at a time:
// weights are dequantised once into workgroup memory and serve all its tokens, activations serve
// all its rows. Invocation (x, y) holds the sums of rows x, x + LANES, ... for its own tokens.

const TILES: u32 = 2u;
const ROWS: u32 = TILE_ROWS / LANES;        // rows of one invocation in one tile
const OWN_TOKENS: u32 = TOKENS / GROUPS;    // tokens of one invocation
const THREADS: u32 = LANES * GROUPS;
const STAGED_ROWS: u32 = TILES * TILE_ROWS;

var<workgroup> staged_weights: array<vec4<f32>, QUADS * STAGED_ROWS>; // [quad, row]
var<workgroup> staged_x: array<vec4<f32>, TOKENS * QUADS>;            // [token, quad]

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tile0 = (group.y * groups.x + group.x) * TILES;
    let token0 = group.z * TOKENS;
    let last_token = max(step.rows, 1u) - 1u;

    var sums: array<array<array<f32, ROWS>, OWN_TOKENS>, TILES>;
    for (var block = 0u; block < params.blocks; block++) {
        workgroupBarrier(); // orders the reads of the last block before it is overwritten
        for (var i = thread; i < 2u * STAGED_ROWS; i += THREADS) {
            // Half a block of a row. Past the last tile the last one is read again; its sums are
            // not stored.
            let row = i % STAGED_ROWS;
            let first_quad = i / STAGED_ROWS * (QUADS / 2u);
            let tile = min(tile0 + row / TILE_ROWS, params.tiles - 1u);
            let weights = load_weights(tile, block, row % TILE_ROWS, true);
            for (var q = first_quad; q < first_quad + QUADS / 2u; q++) {
                staged_weights[q * STAGED_ROWS + row] = scaled_quad(weights, q);
            }
        }
        for (var i = thread; i < TOKENS * QUADS; i += THREADS) {
            let token = min(token0 + i / QUADS, last_token);
            staged_x[i] = x[token * params.x_stride + block * QUADS + i % QUADS];
        }
        workgroupBarrier(); // orders the block before its reads
        for (var q = 0u; q < QUADS; q++) {
            var a: array<vec4<f32>, OWN_TOKENS>;
            for (var t = 0u; t < OWN_TOKENS; t++) {
                a[t] = staged_x[(local.y * OWN_TOKENS + t) * QUADS + q];
            }
            for (var tile = 0u; tile < TILES; tile++) {
                for (var r = 0u; r < ROWS; r++) {
                    let row = tile * TILE_ROWS + r * LANES + local.x;
                    let w = staged_weights[q * STAGED_ROWS + row];
                    for (var t = 0u; t < OWN_TOKENS; t++) {
                        sums[tile][t][r] = fma_quad(w, a[t], sums[tile][t][r]);
                    }
                }
            }
        }
    }
    for (var tile = 0u; tile < TILES; tile++) {
        for (var t = 0u; t < OWN_TOKENS; t++) {
            let token = token0 + local.y * OWN_TOKENS + t;
            if tile0 + tile < params.tiles && token < step.rows {
                store(tile0 + tile, token, local.x, sums[tile][t]);
            }
        }
    }
}
