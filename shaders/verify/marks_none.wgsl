// No request has penalties or a grammar.

fn shaped(settings: Settings, marks: u32, y: u32, logit: f32) -> f32 {
    return select(clamp(logit * settings.coldness, LOWEST, HIGHEST), LOWEST, logit <= LOWEST);
}

fn shaped_four(settings: Settings, marks: u32, y: u32, logits: vec4<f32>) -> vec4<f32> {
    let z = clamp(logits * settings.coldness, vec4(LOWEST), vec4(HIGHEST));
    return select(z, vec4(LOWEST), logits <= vec4(LOWEST));
}
