// Q8_0: weight = scale * signed byte. Two vec4s hold the 32 bytes of a block.

@group(0) @binding(5) var<storage, read> scales: array<u32>; // two f16 scales a word

struct Weights {
    bytes: array<vec4<u32>, 2>,
    scale: f32,
}

fn load_weights(tile: u32, block: u32, slot: u32, live: bool) -> Weights {
    let b = tile * params.blocks + block;
    let i = b * TILE_ROWS + slot;
    let scale = unpack2x16float(scales[i >> 1u] >> ((i & 1u) * 16u)).x;
    return Weights(
        array(quants[(b * 2u) * TILE_ROWS + slot], quants[(b * 2u + 1u) * TILE_ROWS + slot]),
        select(0.0, scale, live),
    );
}

fn weight_quad(w: Weights, quad: u32) -> vec4<f32> {
    let word = w.bytes[quad >> 2u][quad & 3u];
    return vec4<f32>(bitcast<vec4<i32>>(vec4(word) << vec4(24u, 16u, 8u, 0u)) >> vec4(24u));
}

fn apply_scale(w: Weights, dot: f32, total: f32, sum: f32) -> f32 {
    return fma(w.scale, dot, sum);
}

fn scaled_quad(w: Weights, quad: u32) -> vec4<f32> {
    return w.scale * weight_quad(w, quad);
}
