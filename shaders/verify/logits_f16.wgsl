// Logits stored as f16, two to a word; needs no extension.

fn widened(word: u32, index: u32) -> u32 {
    let half = (word >> (16u * (index & 1u))) & 0xffffu;
    let magnitude = half & 0x7fffu;
    let sign = (half & 0x8000u) << 16u;
    if magnitude >= 0x7c00u {
        // Infinities and NaN: unpack2x16float need not keep them.
        return sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13u);
    }
    return bitcast<u32>(unpack2x16float(half).x);
}

fn target_bits(index: u32) -> u32 {
    return widened(target_word(index / 2u), index);
}

fn draft_bits(index: u32) -> u32 {
    return widened(draft_word(index / 2u), index);
}

fn four_of(low: u32, high: u32) -> vec4<u32> {
    return vec4(widened(low, 0u), widened(low, 1u), widened(high, 0u), widened(high, 1u));
}

// Of four tokens in order, of which the first is a multiple of four in its row. Rows begin at whole words.
fn target_four(index: u32) -> vec4<u32> {
    return four_of(target_word(index / 2u), target_word(index / 2u + 1u));
}

fn draft_four(index: u32) -> vec4<u32> {
    return four_of(draft_word(index / 2u), draft_word(index / 2u + 1u));
}
