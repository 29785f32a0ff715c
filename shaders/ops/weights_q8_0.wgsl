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

// Bytes are scaled down as floats, which is exact, and not shifted (see weights_q4_1.wgsl): the lower three from 128 on,
// so that none is negative in its place, the highest with its sign.
fn weight_quad(w: Weights, quad: u32) -> vec4<f32> {
    let word = w.bytes[quad >> 2u][quad & 3u] ^ 0x808080u;
    let bytes = bitcast<vec4<i32>>(vec4(word) & vec4(0xffu, 0xff00u, 0xff0000u, 0xff000000u));
    return vec4<f32>(bytes) * vec4(1.0, 0x1p-8, 0x1p-16, 0x1p-24) - vec4(128.0, 128.0, 128.0, 0.0);
}

fn apply_scale(w: Weights, dot: f32, total: f32, sum: f32) -> f32 {
    return fma(w.scale, dot, sum);
}

fn scaled_quad(w: Weights, quad: u32) -> vec4<f32> {
    return w.scale * weight_quad(w, quad);
}
