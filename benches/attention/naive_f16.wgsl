// Storage of Q, K, V and O as f16, two to a word.

alias Stored = vec2<u32>;

fn loaded(quad: Stored) -> vec4<f32> {
    return vec4(unpack2x16float(quad.x), unpack2x16float(quad.y));
}

fn stored(quad: vec4<f32>) -> Stored {
    return vec2(pack2x16float(quad.xy), pack2x16float(quad.zw));
}
