// What some models do to a score before the softmax, in their order: softcap (Gemma 2), ALiBi
// (Press et al. 2022), additive bias. Scores are in the base-2 domain.

fn modified_score(raw: f32, row: Row, key: u32) -> f32 {
    var score = raw;
    if SOFTCAP == 1u {
        // tanh is 1 to f32 precision from 10 on; larger arguments overflow on some drivers.
        score = params.softcap * tanh(clamp(score / params.softcap, -10.0, 10.0));
    }
    return with_bias(with_alibi(score, row, key), row, key);
}
