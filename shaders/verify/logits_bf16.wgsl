// Logits stored as bf16, the upper halves of f32s, two to a word.

fn target_bits(index: u32) -> u32 {
    return ((target_word(index / 2u) >> (16u * (index & 1u))) & 0xffffu) << 16u;
}

fn draft_bits(index: u32) -> u32 {
    return ((draft_word(index / 2u) >> (16u * (index & 1u))) & 0xffffu) << 16u;
}

fn four_of(low: u32, high: u32) -> vec4<u32> {
    return vec4(low << 16u, low & 0xffff0000u, high << 16u, high & 0xffff0000u);
}

// Of four tokens in order, of which the first is a multiple of four in its row. Rows begin at whole words.
fn target_four(index: u32) -> vec4<u32> {
    return four_of(target_word(index / 2u), target_word(index / 2u + 1u));
}

fn draft_four(index: u32) -> vec4<u32> {
    return four_of(draft_word(index / 2u), draft_word(index / 2u + 1u));
}
