// Penalties and grammar, from the marks of the node: see verify/mark.wgsl. Without branches: a compiler for CPUs takes
// minutes for rows of them.

// Of the mark words that hold a token: those that occurred, and those that are allowed.
fn marks_at(settings: Settings, marks: u32, y: u32) -> vec2<u32> {
    let words = vec2(scratch_word(marks + y / 32u), scratch_word(marks + y / 32u + params.mask_words));
    let used = vec2((settings.uses & USES_PENALTY) != 0u, (settings.uses & USES_GRAMMAR) != 0u);
    return select(vec2(0u, 0xffffffffu), words, used);
}

fn shaped(settings: Settings, marks: u32, y: u32, logit: f32) -> f32 {
    let bits = (marks_at(settings, marks, y) >> vec2(y % 32u)) & vec2(1u);
    let scaled = select(logit * settings.repetition, logit / settings.repetition, logit > 0.0);
    let z = select(logit, scaled - settings.presence, bits.x == 1u);
    let nothing = (bits.y == 0u) | (logit <= LOWEST);
    return select(clamp(z * settings.coldness, LOWEST, HIGHEST), LOWEST, nothing);
}

// Four tokens share a word, since the first is a multiple of four.
fn shaped_four(settings: Settings, marks: u32, y: u32, logits: vec4<f32>) -> vec4<f32> {
    let words = marks_at(settings, marks, y);
    let bits = vec4(y % 32u) + vec4(0u, 1u, 2u, 3u);
    let occurred = ((vec4(words.x) >> bits) & vec4(1u)) != vec4(0u);
    let forbidden = ((vec4(words.y) >> bits) & vec4(1u)) == vec4(0u);
    let scaled = select(logits * settings.repetition, logits / settings.repetition, logits > vec4(0.0));
    let z = select(logits, scaled - vec4(settings.presence), occurred);
    let nothing = forbidden | (logits <= vec4(LOWEST));
    return select(clamp(z * settings.coldness, vec4(LOWEST), vec4(HIGHEST)), vec4(LOWEST), nothing);
}
