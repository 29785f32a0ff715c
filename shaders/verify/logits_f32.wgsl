// Logits stored as f32. They are read as bits, because arithmetic may not tell a NaN.

fn target_bits(index: u32) -> u32 {
    return target_logits[index];
}

fn draft_bits(index: u32) -> u32 {
    return draft_logits[index];
}
