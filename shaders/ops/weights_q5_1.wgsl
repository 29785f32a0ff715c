// Q5_1: weight = scale * q + minimum, q of 5 bits. One vec4 holds the low nibbles of a block as in
// Q4_1; beside the scales lies a word with the fifth bits, bit i of weight i.

// [tile, block]: a word of fifth bits a row, then f16 scale and f16 minimum a row.
@group(0) @binding(5) var<storage, read> scales: array<u32>;

struct Weights {
    nibbles: vec4<u32>,
    fifth: u32,
    scale: f32,
    minimum: f32,
}

fn load_weights(tile: u32, block: u32, slot: u32, live: bool) -> Weights {
    let b = tile * params.blocks + block;
    let words = b * 2u * TILE_ROWS + slot;
    let pair = select(vec2(0.0), unpack2x16float(scales[words + TILE_ROWS]), live);
    return Weights(quants[b * TILE_ROWS + slot], scales[words], pair.x, pair.y);
}

fn weight_quad(w: Weights, quad: u32) -> vec4<f32> {
    let word = w.nibbles[quad & 3u] >> ((quad >> 2u) * 4u);
    let nibbles = (vec4(word) >> vec4(0u, 8u, 16u, 24u)) & vec4(15u);
    let fifth = (vec4(w.fifth >> (quad * 4u)) >> vec4(0u, 1u, 2u, 3u)) & vec4(1u);
    return vec4<f32>(vec4<i32>(nibbles | (fifth << vec4(4u))));
}

fn apply_scale(w: Weights, dot: f32, total: f32, sum: f32) -> f32 {
    return fma(w.minimum, total, fma(w.scale, dot, sum));
}

fn scaled_quad(w: Weights, quad: u32) -> vec4<f32> {
    return fma(vec4(w.scale), weight_quad(w, quad), vec4(w.minimum));
}
