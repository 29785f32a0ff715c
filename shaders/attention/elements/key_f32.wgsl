// Key elements stored as f32.

alias StoredKey = vec4<f32>; // four elements

fn key_quad(stored: StoredKey) -> vec4<f32> {
    return stored;
}
