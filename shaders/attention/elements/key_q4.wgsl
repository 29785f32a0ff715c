// Key elements stored as 4-bit integers in blocks of 32 along the head, with an f16 scale a block:
// value = (integer - 8) * scale. A row has its integers first, eight to a word, then its scales, two
// to a word.

alias StoredKey = u32;

fn key_at(row: u32, quad: u32) -> vec4<f32> {
    let block = quad / QUANT_QUADS;
    let scales = row + (K_QUADS + 1u) / 2u;
    let scale = unpack2x16float(key[scales + block / 2u] >> (block % 2u * 16u)).x;
    let bits = vec4(key[row + quad / 2u] >> (quad % 2u * 16u)) >> vec4(0u, 4u, 8u, 12u);
    return (vec4<f32>(bits & vec4(15u)) - 8.0) * scale;
}
