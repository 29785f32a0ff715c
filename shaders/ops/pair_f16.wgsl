// Cache elements kept as f16, two to a word. Rounding is to nearest by definition of the pack.

alias StoredPair = u32;

fn stored_pair(pair: vec2<f32>) -> StoredPair {
    return pack2x16float(pair);
}
