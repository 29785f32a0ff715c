// No tree is drawn by chance: there are no draft logits.

fn has_draft(request: u32, node: u32) -> bool {
    return false;
}

fn draft_source(request: u32, node: u32) -> Source {
    return Source(0u, 0u);
}

fn draft_z(source: Source, settings: Settings, y: u32) -> f32 {
    return LOWEST;
}
