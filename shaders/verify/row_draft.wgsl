// The row of a node is that of the draft's logits from which its children were drawn.

const ROW_KIND: u32 = 1u;

fn row_exists(request: u32, node: u32) -> bool {
    return node < node_count(request) && has_draft(request, node);
}

fn row_source(request: u32, node: u32) -> Source {
    return draft_source(request, node);
}

fn row_settings(request: u32) -> Settings {
    return requests[request].drafting;
}

fn row_z(source: Source, settings: Settings, y: u32) -> f32 {
    return draft_z(source, settings, y);
}

fn row_z_four(source: Source, settings: Settings, y: u32) -> vec4<f32> {
    return draft_z_four(source, settings, y);
}

// Those of four tokens of which not all are before `end`; LOWEST for the others.
fn row_z_four_before(source: Source, settings: Settings, y: u32, end: u32) -> vec4<f32> {
    return draft_z_four_before(source, settings, y, end);
}
