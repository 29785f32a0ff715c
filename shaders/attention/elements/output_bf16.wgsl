// Output elements stored as bf16, the upper half of an f32, two to a word.

alias StoredOutput = vec2<u32>; // four elements

fn stored_output(quad: vec4<f32>) -> StoredOutput {
    // Round to nearest, ties to even. The addition must not carry a NaN into the exponent.
    let bits = bitcast<vec4<u32>>(quad);
    let finite = (bits + vec4(0x7fffu) + ((bits >> vec4(16u)) & vec4(1u))) >> vec4(16u);
    let rounded = select(finite, vec4(0x7fc0u), (bits & vec4(0x7fffffffu)) > vec4(0x7f800000u));
    return vec2(rounded.x | (rounded.y << 16u), rounded.z | (rounded.w << 16u));
}
