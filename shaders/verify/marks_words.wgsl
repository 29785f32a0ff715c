// Penalties and grammar, from the marks of the node: see verify/mark.wgsl.

fn shaped(settings: Settings, marks: u32, y: u32, logit: f32) -> f32 {
    let at = marks + y / 32u;
    let bit = 1u << (y % 32u);
    let occurred = (settings.uses & USES_PENALTY) != 0u && (scratch_word(at) & bit) != 0u;
    let forbidden = (settings.uses & USES_GRAMMAR) != 0u && (scratch_word(at + params.mask_words) & bit) == 0u;
    let scaled = select(logit * settings.repetition, logit / settings.repetition, logit > 0.0);
    let z = select(logit, scaled - settings.presence, occurred);
    let nothing = forbidden || logit <= LOWEST;
    return select(clamp(z * settings.coldness, LOWEST, HIGHEST), LOWEST, nothing);
}
