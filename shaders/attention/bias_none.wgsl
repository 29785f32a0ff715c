// No additive bias.

fn bias(row: Row, key: u32) -> f32 {
    return 0.0;
}
