// Value elements stored as f16, two to a word. Needs no extension.

alias StoredValue = vec2<u32>; // four elements

fn value_quad(stored: StoredValue) -> vec4<f32> {
    return vec4(unpack2x16float(stored.x), unpack2x16float(stored.y));
}
