// Q5_K: as Q4_K with 5 bits a weight; weight = d * s * q - m * t. One vec4 holds the low nibbles of
// a block; beside the scales lies a word with the fifth bits, bit i of weight i.

// [tile, super-block, word, row]: words 0-4 as in Q4_K; words 5-12 have the fifth bits of a block.
@group(0) @binding(5) var<storage, read> scales: array<u32>;

const SCALE_WORDS: u32 = 13u;

struct Weights {
    nibbles: vec4<u32>,
    fifth: u32,
    scale: f32,
    minimum: f32,
}

fn load_weights(tile: u32, block: u32, slot: u32, live: bool) -> Weights {
    let super_blocks = (params.blocks + 7u) / 8u;
    let words = (tile * super_blocks + block / 8u) * SCALE_WORDS * TILE_ROWS + slot;
    let pair = scales[words + (1u + (block & 7u) / 2u) * TILE_ROWS] >> ((block & 1u) * 16u);
    let steps = vec2<f32>(vec2(pair & 0xffu, (pair >> 8u) & 0xffu));
    let scale = select(vec2(0.0), unpack2x16float(scales[words]) * steps, live);
    let fifth = scales[words + (5u + (block & 7u)) * TILE_ROWS];
    let nibbles = quants[(tile * params.blocks + block) * TILE_ROWS + slot];
    return Weights(nibbles, fifth, scale.x, -scale.y);
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
