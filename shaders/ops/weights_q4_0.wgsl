// Q4_0: weight = scale * (nibble - 8). One vec4 holds the 32 nibbles of a block, as in the file:
// low nibbles are weights 0-15, high nibbles 16-31.

@group(0) @binding(5) var<storage, read> scales: array<u32>; // two f16 scales a word

struct Weights {
    nibbles: vec4<u32>,
    scale: f32,
}

fn load_weights(tile: u32, block: u32, slot: u32, live: bool) -> Weights {
    let i = (tile * params.blocks + block) * TILE_ROWS + slot;
    let scale = unpack2x16float(scales[i >> 1u] >> ((i & 1u) * 16u)).x;
    return Weights(quants[i], select(0.0, scale, live));
}

fn weight_quad(w: Weights, quad: u32) -> vec4<f32> {
    let word = w.nibbles[quad & 3u] >> ((quad >> 2u) * 4u);
    let nibbles = (vec4(word) >> vec4(0u, 8u, 16u, 24u)) & vec4(15u);
    return vec4<f32>(vec4<i32>(nibbles) - vec4(8i));
}

fn apply_scale(w: Weights, dot: f32, total: f32, sum: f32) -> f32 {
    return fma(w.scale, dot, sum);
}

fn scaled_quad(w: Weights, quad: u32) -> vec4<f32> {
    return w.scale * weight_quad(w, quad);
}
