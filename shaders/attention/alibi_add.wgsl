// ALiBi (Press et al. 2022): a penalty that grows with the distance, with a slope for each head.

fn with_alibi(score: f32, row: Row, key: u32) -> f32 {
    let distance = abs(query_position(row) - key_position(row, key));
    return fma(-head_values[row.head].x, f32(distance), score);
}
