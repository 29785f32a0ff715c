// Output elements stored as f32.

alias StoredOutput = vec4<f32>; // four elements

fn stored_output(quad: vec4<f32>) -> StoredOutput {
    return quad;
}
