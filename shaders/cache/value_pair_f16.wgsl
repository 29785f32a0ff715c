// Value elements kept as f16, two to a word. A number beyond its range is kept as the largest: what packing
// an infinity gives is the implementation's choice.

alias StoredValue = u32;

fn stored_value(pair: vec2<f32>) -> StoredValue {
    return pack2x16float(clamp(pair, vec2(-65504.0), vec2(65504.0)));
}
