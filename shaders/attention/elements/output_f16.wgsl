// Output elements stored as f16, two to a word. Needs no extension.

alias StoredOutput = vec2<u32>; // four elements

fn stored_output(quad: vec4<f32>) -> StoredOutput {
    return vec2(pack2x16float(quad.xy), pack2x16float(quad.zw));
}
