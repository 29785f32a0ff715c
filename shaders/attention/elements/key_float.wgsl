// Reads of keys that are stored as floats.

fn key_at(row: u32, quad: u32) -> vec4<f32> {
    return key_quad(key[row + quad]);
}
