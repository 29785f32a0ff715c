// Value elements stored as int8 in blocks of 32 along the head, with an f16 scale a block: value =
// integer * scale. A row has its integers first, four to a word, then its scales, two to a word.

alias StoredValue = u32;

fn value_at(row: u32, quad: u32) -> vec4<f32> {
    let block = quad / QUANT_QUADS;
    let scale = unpack2x16float(value[row + V_QUADS + block / 2u] >> (block % 2u * 16u)).x;
    let bytes = vec4(value[row + quad]) << vec4(24u, 16u, 8u, 0u);
    return vec4<f32>(bitcast<vec4<i32>>(bytes) >> vec4(24u)) * scale;
}
