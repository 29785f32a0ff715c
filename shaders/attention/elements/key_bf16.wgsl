// Key elements stored as bf16, the upper half of an f32, two to a word.

alias StoredKey = vec2<u32>; // four elements

fn key_quad(stored: StoredKey) -> vec4<f32> {
    let low = stored << vec2(16u);
    let high = stored & vec2(0xffff0000u);
    return bitcast<vec4<f32>>(vec4(low.x, high.x, low.y, high.y));
}
