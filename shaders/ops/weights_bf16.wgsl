// BF16 weights: four vec4s hold the 32 upper halves of f32s of a block, two to a word.

struct Weights {
    halves: array<vec4<u32>, 4>,
    live: bool,
}

fn load_weights(tile: u32, block: u32, slot: u32, live: bool) -> Weights {
    let b = (tile * params.blocks + block) * 4u;
    return Weights(
        array(
            quants[b * TILE_ROWS + slot],
            quants[(b + 1u) * TILE_ROWS + slot],
            quants[(b + 2u) * TILE_ROWS + slot],
            quants[(b + 3u) * TILE_ROWS + slot],
        ),
        live,
    );
}

fn weight_quad(w: Weights, quad: u32) -> vec4<f32> {
    let words = w.halves[quad >> 1u];
    let pair = select(words.xy, words.zw, (quad & 1u) == 1u);
    let low = pair << vec2(16u);
    let high = pair & vec2(0xffff0000u);
    return bitcast<vec4<f32>>(vec4(low.x, high.x, low.y, high.y));
}

fn apply_scale(w: Weights, dot: f32, total: f32, sum: f32) -> f32 {
    return sum + select(0.0, dot, w.live);
}

fn scaled_quad(w: Weights, quad: u32) -> vec4<f32> {
    return weight_quad(w, quad);
}
