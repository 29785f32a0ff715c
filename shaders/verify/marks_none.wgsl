// No request has penalties or a grammar.

fn shaped(settings: Settings, marks: u32, y: u32, logit: f32) -> f32 {
    return select(clamp(logit * settings.coldness, LOWEST, HIGHEST), LOWEST, logit <= LOWEST);
}
