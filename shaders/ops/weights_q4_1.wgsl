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

// Nibbles are scaled down as floats, which is exact, and not shifted: a CPU that plays a GPU may shift a lane at a time.
fn weight_quad(w: Weights, quad: u32) -> vec4<f32> {
    let word = w.nibbles[quad & 3u] >> ((quad >> 2u) * 4u);
    let nibbles = vec4<i32>(vec4(word) & vec4(0xfu, 0xf00u, 0xf0000u, 0xf000000u));
    return vec4<f32>(nibbles) * vec4(1.0, 0x1p-8, 0x1p-16, 0x1p-24);
}

fn apply_scale(w: Weights, dot: f32, total: f32, sum: f32) -> f32 {
    return fma(w.minimum, total, fma(w.scale, dot, sum));
}

fn scaled_quad(w: Weights, quad: u32) -> vec4<f32> {
    return fma(vec4(w.scale), weight_quad(w, quad), vec4(w.minimum));
}
