// F32 weights: eight vec4s hold the 32 values of a block.

struct Weights {
    quads: array<vec4<f32>, 8>,
    live: bool,
}

fn load_weights(tile: u32, block: u32, slot: u32, live: bool) -> Weights {
    let b = (tile * params.blocks + block) * 8u;
    var w: Weights;
    for (var q = 0u; q < 8u; q++) {
        w.quads[q] = bitcast<vec4<f32>>(quants[(b + q) * TILE_ROWS + slot]);
    }
    w.live = live;
    return w;
}

fn weight_quad(w: Weights, quad: u32) -> vec4<f32> {
    return w.quads[quad];
}

fn apply_scale(w: Weights, dot: f32, total: f32, sum: f32) -> f32 {
    return sum + select(0.0, dot, w.live);
}

fn scaled_quad(w: Weights, quad: u32) -> vec4<f32> {
    return weight_quad(w, quad);
}
