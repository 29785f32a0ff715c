// Reads of values that are stored as floats.

fn value_at(row: u32, quad: u32) -> vec4<f32> {
    return value_quad(value[row + quad]);
}
