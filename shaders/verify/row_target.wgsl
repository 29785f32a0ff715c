// The row of a node is that of the target's logits after it.

const ROW_KIND: u32 = 0u;

fn row_exists(request: u32, node: u32) -> bool {
    return node < node_count(request);
}

fn row_source(request: u32, node: u32) -> Source {
    return target_source(request, node);
}

fn row_settings(request: u32) -> Settings {
    return requests[request].sampling;
}

fn row_z(source: Source, settings: Settings, y: u32) -> f32 {
    return target_z(source, settings, y);
}

fn row_z_four(source: Source, settings: Settings, y: u32) -> vec4<f32> {
    return target_z_four(source, settings, y);
}

// Those of four tokens of which not all are before `end`; LOWEST for the others.
fn row_z_four_before(source: Source, settings: Settings, y: u32, end: u32) -> vec4<f32> {
    return target_z_four_before(source, settings, y, end);
}
