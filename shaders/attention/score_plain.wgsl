// Scores as they come.

fn modified_score(score: f32, row: Row, key: u32) -> f32 {
    return score;
}
