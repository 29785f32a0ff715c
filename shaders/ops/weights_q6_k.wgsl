// Q6_K: super-blocks of 16 blocks of 16; weight = d * s * (q - 32), with d of the super-block in f16,
// s of the block a signed byte, q of 6 bits. One vec4 holds the low nibbles of 32 weights, low nibbles
// weights 0-15, high ones 16-31; beside the scales lie two words with their upper pairs of bits.

// [tile, super-block, word, row]: word 0 is d; words 1-4 have the four bytes s of 64 weights; words
// 5-20 the upper bits of 16 weights, two bits each.
@group(0) @binding(5) var<storage, read> scales: array<u32>;

const SCALE_WORDS: u32 = 21u;

struct Weights {
    nibbles: vec4<u32>,
    upper: vec2<u32>,
    steps: vec2<f32>, // of weights 0-15 and 16-31
    scale: f32,
}

fn load_weights(tile: u32, block: u32, slot: u32, live: bool) -> Weights {
    let super_blocks = (params.blocks + 7u) / 8u;
    let words = (tile * super_blocks + block / 8u) * SCALE_WORDS * TILE_ROWS + slot;
    let in_super = block & 7u;
    let pair = scales[words + (1u + in_super / 2u) * TILE_ROWS] >> ((block & 1u) * 16u);
    let steps = bitcast<vec2<i32>>(vec2(pair) << vec2(24u, 16u)) >> vec2(24u);
    let upper = words + (5u + in_super * 2u) * TILE_ROWS;
    return Weights(
        quants[(tile * params.blocks + block) * TILE_ROWS + slot],
        vec2(scales[upper], scales[upper + TILE_ROWS]),
        vec2<f32>(steps),
        select(0.0, unpack2x16float(scales[words]).x, live),
    );
}

// s * (q - 32): both are small integers, so the product is exact.
fn weight_quad(w: Weights, quad: u32) -> vec4<f32> {
    let word = w.nibbles[quad & 3u] >> ((quad >> 2u) * 4u);
    let nibbles = (vec4(word) >> vec4(0u, 8u, 16u, 24u)) & vec4(15u);
    let bits = w.upper[quad >> 2u] >> ((quad & 3u) * 8u);
    let upper = (vec4(bits) >> vec4(0u, 2u, 4u, 6u)) & vec4(3u);
    let q = vec4<i32>(nibbles | (upper << vec4(4u))) - vec4(32i);
    return w.steps[quad >> 2u] * vec4<f32>(q);
}

fn apply_scale(w: Weights, dot: f32, total: f32, sum: f32) -> f32 {
    return fma(w.scale, dot, sum);
}

fn scaled_quad(w: Weights, quad: u32) -> vec4<f32> {
    return w.scale * weight_quad(w, quad);
}
