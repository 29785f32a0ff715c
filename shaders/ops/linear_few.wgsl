// Linear layer for few tokens: y[token][row] = sum_k W[row][k] * x[token][k].
//
// One workgroup computes one tile of TILE_ROWS rows for TOKENS tokens. LANES invocations lie
// along the rows, so neighbours read neighbouring words of the interleaved weights (see
// `ops/weights.rs`); SLICES groups of them share the blocks of a row and are summed at the end in
// ascending order. The order of operations for one (token, row) depends on neither TOKENS nor the
// number of tokens: a token checked in a batch gets the bits it would have got alone.
//
// Defined by the files beside this one: Weights, load_weights, weight_quad, apply_scale
// (weights_*.wgsl); Activations, load_activations, activation_quad (x_*.wgsl); finish
// (sum_*.wgsl) and store (store_*.wgsl).

const ROWS: u32 = TILE_ROWS / LANES; // rows of one invocation

alias Sums = array<array<f32, TOKENS>, ROWS>;

// Adds the products of quad `q` of the block to the dot products of all rows and tokens.
fn quad_products(
    q: u32,
    activations: ptr<function, array<Activations, TOKENS>>,
    weights: ptr<function, array<Weights, ROWS>>,
    dots: ptr<function, Sums>,
) {
    var w: array<vec4<f32>, ROWS>;
    for (var r = 0u; r < ROWS; r++) { // unroll
        w[r] = weight_quad((*weights)[r], q);
    }
    for (var t = 0u; t < TOKENS; t++) { // unroll
        let a = activation_quad((*activations)[t], q);
        for (var r = 0u; r < ROWS; r++) { // unroll
            (*dots)[r][t] = fma_quad(w[r], a, (*dots)[r][t]);
        }
    }
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let lane = local.x;
    let slice = local.y;
    let tile = group.y * groups.x + group.x;
    if tile >= params.tiles {
        return;
    }
    let token0 = group.z * TOKENS;

    var sums: Sums;
    for (var i = 0u; i * SLICES < params.blocks; i++) {
        // A slice past the end repeats the last block with weight zero: control flow stays uniform.
        let wanted = i * SLICES + slice;
        let block = min(wanted, params.blocks - 1u);
        let live = wanted < params.blocks;

        var activations: array<Activations, TOKENS>;
        for (var t = 0u; t < TOKENS; t++) { // unroll
            let token = min(token0 + t, max(step.rows, 1u) - 1u);
            activations[t] = load_activations(token, block, lane);
        }
        var weights: array<Weights, ROWS>;
        for (var r = 0u; r < ROWS; r++) { // unroll
            weights[r] = load_weights(tile, block, r * LANES + lane, live);
        }
        // Eight calls with constant arguments rather than a loop: drivers that unroll only small
        // loops would otherwise keep the registers of the tile in memory.
        // Zero spelled out: Tint zeroes a variable of a loop's body in the first turn only.
        var dots = Sums();
        quad_products(0u, &activations, &weights, &dots);
        quad_products(1u, &activations, &weights, &dots);
        quad_products(2u, &activations, &weights, &dots);
        quad_products(3u, &activations, &weights, &dots);
        quad_products(4u, &activations, &weights, &dots);
        quad_products(5u, &activations, &weights, &dots);
        quad_products(6u, &activations, &weights, &dots);
        quad_products(7u, &activations, &weights, &dots);
        var totals: array<f32, TOKENS>;
        for (var t = 0u; t < TOKENS; t++) { // unroll
            totals[t] = activation_total(activations[t]);
        }
        for (var r = 0u; r < ROWS; r++) { // unroll
            for (var t = 0u; t < TOKENS; t++) { // unroll
                sums[r][t] = apply_scale(weights[r], dots[r][t], totals[t], sums[r][t]);
            }
        }
    }
    finish(tile, token0, lane, slice, sums);
}
