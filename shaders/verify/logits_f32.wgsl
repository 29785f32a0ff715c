// Logits stored as f32. They are read as bits, because arithmetic may not tell a NaN.

fn target_bits(index: u32) -> u32 {
    return target_word(index);
}

fn draft_bits(index: u32) -> u32 {
    return draft_word(index);
}

// Of four tokens in order, of which the first is a multiple of four in its row.
fn target_four(index: u32) -> vec4<u32> {
    return target_quad(index);
}

fn draft_four(index: u32) -> vec4<u32> {
    return draft_quad(index);
}
