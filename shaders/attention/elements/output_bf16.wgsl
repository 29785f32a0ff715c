// Output elements stored as bf16, the upper half of an f32, two to a word.

alias StoredOutput = vec2<u32>; // four elements

fn stored_output(quad: vec4<f32>) -> StoredOutput {
    // Round to nearest, ties to even. Outputs are finite, so no NaN can become an infinity.
    let bits = bitcast<vec4<u32>>(quad);
    let rounded = (bits + vec4(0x7fffu) + ((bits >> vec4(16u)) & vec4(1u))) >> vec4(16u);
    return vec2(rounded.x | (rounded.y << 16u), rounded.z | (rounded.w << 16u));
}
