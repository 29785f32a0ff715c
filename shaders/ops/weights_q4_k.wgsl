// Q4_K: super-blocks of 8 blocks of 32; weight = d * s * nibble - m * t, with d and m of the
// super-block in f16, and s and t of the block in 6 bits. One vec4 holds the nibbles of a block, low
// nibbles weights 0-15, high ones 16-31.

// [tile, super-block, word, row]: word 0 is d and m; words 1-4 have s and t of two blocks each,
// a byte each, the block of even index first.
@group(0) @binding(5) var<storage, read> scales: array<u32>;

const SCALE_WORDS: u32 = 5u;

struct Weights {
    nibbles: vec4<u32>,
    scale: f32,
    minimum: f32,
}

fn load_weights(tile: u32, block: u32, slot: u32, live: bool) -> Weights {
    let super_blocks = (params.blocks + 7u) / 8u;
    let words = (tile * super_blocks + block / 8u) * SCALE_WORDS * TILE_ROWS + slot;
    let pair = scales[words + (1u + (block & 7u) / 2u) * TILE_ROWS] >> ((block & 1u) * 16u);
    let steps = vec2<f32>(vec2(pair & 0xffu, (pair >> 8u) & 0xffu));
    let scale = select(vec2(0.0), unpack2x16float(scales[words]) * steps, live);
    let nibbles = quants[(tile * params.blocks + block) * TILE_ROWS + slot];
    return Weights(nibbles, scale.x, -scale.y);
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
