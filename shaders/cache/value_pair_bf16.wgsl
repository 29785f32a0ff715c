// Value elements kept as bf16, the upper half of an f32, two to a word. A number beyond its range is kept as the
// largest: rounded up, it would be an infinity.

alias StoredValue = u32;

fn stored_value(pair: vec2<f32>) -> StoredValue {
    // Round to nearest, ties to even.
    let bits = bitcast<vec2<u32>>(clamp(pair, vec2(-3.3895314e38), vec2(3.3895314e38)));
    let rounded = bits + vec2(0x7fffu) + ((bits >> vec2(16u)) & vec2(1u));
    return (rounded.x >> 16u) | (rounded.y & 0xffff0000u);
}
