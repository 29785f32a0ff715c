// Q4_1: weight = scale * nibble + minimum. One vec4 holds the 32 nibbles of a block, as in the
// file: low nibbles are weights 0-15, high nibbles 16-31.

@group(0) @binding(5) var<storage, read> scales: array<u32>; // f16 scale, f16 minimum

struct Weights {
    nibbles: vec4<u32>,
    scale: f32,
    minimum: f32,
}

fn load_weights(tile: u32, block: u32, slot: u32, live: bool) -> Weights {
    let i = (tile * params.blocks + block) * TILE_ROWS + slot;
    let pair = select(vec2(0.0), unpack2x16float(scales[i]), live);
    return Weights(quants[i], pair.x, pair.y);
}

fn weight_quad(w: Weights, quad: u32) -> vec4<f32> {
    let word = w.nibbles[quad & 3u] >> ((quad >> 2u) * 4u);
    return vec4<f32>(vec4<i32>((vec4(word) >> vec4(0u, 8u, 16u, 24u)) & vec4(15u)));
}

fn apply_scale(w: Weights, dot: f32, total: f32, sum: f32) -> f32 {
    return fma(w.minimum, total, fma(w.scale, dot, sum));
}

fn scaled_quad(w: Weights, quad: u32) -> vec4<f32> {
    return fma(vec4(w.scale), weight_quad(w, quad), vec4(w.minimum));
}
