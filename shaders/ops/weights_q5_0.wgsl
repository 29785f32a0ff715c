// Q5_0: weight = scale * (q - 16), q of 5 bits. One vec4 holds the low nibbles of a block as in
// Q4_0; beside the scales lies a word with the fifth bits, bit i of weight i.

// [tile, block]: a word of fifth bits a row, then an f16 scale a row.
@group(0) @binding(5) var<storage, read> scales: array<u32>;

struct Weights {
    nibbles: vec4<u32>,
    fifth: u32,
    scale: f32,
}

fn load_weights(tile: u32, block: u32, slot: u32, live: bool) -> Weights {
    let b = tile * params.blocks + block;
    let words = b * (TILE_ROWS + TILE_ROWS / 2u);
    let pair = scales[words + TILE_ROWS + (slot >> 1u)] >> ((slot & 1u) * 16u);
    return Weights(
        quants[b * TILE_ROWS + slot],
        scales[words + slot],
        select(0.0, unpack2x16float(pair).x, live),
    );
}

fn weight_quad(w: Weights, quad: u32) -> vec4<f32> {
    let word = w.nibbles[quad & 3u] >> ((quad >> 2u) * 4u);
    let nibbles = (vec4(word) >> vec4(0u, 8u, 16u, 24u)) & vec4(15u);
    let fifth = (vec4(w.fifth >> (quad * 4u)) >> vec4(0u, 1u, 2u, 3u)) & vec4(1u);
    return vec4<f32>(vec4<i32>(nibbles | (fifth << vec4(4u))) - vec4(16i));
}

fn apply_scale(w: Weights, dot: f32, total: f32, sum: f32) -> f32 {
    return fma(w.scale, dot, sum);
}

fn scaled_quad(w: Weights, quad: u32) -> vec4<f32> {
    return w.scale * weight_quad(w, quad);
}
