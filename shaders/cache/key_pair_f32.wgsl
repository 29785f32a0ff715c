// Key elements kept as f32, two at a time.

alias StoredKey = vec2<f32>;

fn stored_key(pair: vec2<f32>) -> StoredKey {
    return pair;
}
