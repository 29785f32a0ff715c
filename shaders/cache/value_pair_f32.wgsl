// Value elements kept as f32, two at a time.

alias StoredValue = vec2<f32>;

fn stored_value(pair: vec2<f32>) -> StoredValue {
    return pair;
}
