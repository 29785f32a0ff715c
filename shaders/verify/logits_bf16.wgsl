// Logits stored as bf16, the upper halves of f32s, two to a word.

fn target_bits(index: u32) -> u32 {
    return ((target_logits[index / 2u] >> (16u * (index & 1u))) & 0xffffu) << 16u;
}

fn draft_bits(index: u32) -> u32 {
    return ((draft_logits[index / 2u] >> (16u * (index & 1u))) & 0xffffu) << 16u;
}
