// Cache elements kept as f32.

alias StoredPair = vec2<f32>;

fn stored_pair(pair: vec2<f32>) -> StoredPair {
    return pair;
}
