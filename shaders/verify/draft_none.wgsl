// No tree is drawn by chance: there are no draft logits.

fn has_draft(request: u32, node: u32) -> bool {
    return false;
}

fn draft_source(request: u32, node: u32) -> Source {
    return Source(0u, 0u);
}

// Whether the rows of a node are in the parts that are bound.
fn is_bound(request: u32, node: u32) -> bool {
    return is_in_part(request * params.max_nodes + node);
}

fn draft_z_four(source: Source, settings: Settings, y: u32) -> vec4<f32> {
    return vec4(LOWEST);
}

fn draft_z(source: Source, settings: Settings, y: u32) -> f32 {
    return LOWEST;
}

fn draft_z_four_before(source: Source, settings: Settings, y: u32, end: u32) -> vec4<f32> {
    return vec4(LOWEST);
}
