// Value elements stored as f32.

alias StoredValue = vec4<f32>; // four elements

fn value_quad(stored: StoredValue) -> vec4<f32> {
    return stored;
}
