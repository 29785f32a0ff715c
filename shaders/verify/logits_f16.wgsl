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
    return widened(target_logits[index / 2u], index);
}

fn draft_bits(index: u32) -> u32 {
    return widened(draft_logits[index / 2u], index);
}
