// The draft logits from which children were drawn.

// Whether the children of `node` were drawn by chance from a row that is there.
fn has_draft(request: u32, node: u32) -> bool {
    let child = first_child(request, node);
    return requests[request].draw != DRAW_TOP_K
        && is_child(child, node, node_count(request))
        && tree_field(request, 7u, min(child, params.max_nodes - 1u)) < params.draft_rows;
}

// The row of the draft's logits, counted over all requests. Siblings share the row that the first child names. A
// bad row is cut to a good one, which `has_draft` has already refused.
fn draft_row(request: u32, node: u32) -> u32 {
    let child = min(first_child(request, node), params.max_nodes - 1u);
    let row = min(tree_field(request, 7u, child), max(params.draft_rows, 1u) - 1u);
    return request * params.draft_rows + row;
}

fn draft_source(request: u32, node: u32) -> Source {
    return Source((draft_row(request, node) - params.first_draft) * params.row_stride, marks_of(request, node));
}

// Whether the rows of a node are in the parts that are bound. What has no draft belongs to the first part of it.
fn is_bound(request: u32, node: u32) -> bool {
    let row = select(0u, draft_row(request, node), has_draft(request, node));
    let has_row = row - params.first_draft < params.part_drafts; // wraps before the part
    return is_in_part(request * params.max_nodes + node) && has_row;
}

fn draft_z_four(source: Source, settings: Settings, y: u32) -> vec4<f32> {
    return shaped_four(settings, source.marks, y, finite_four(draft_four(source.start + y)));
}

fn draft_z(source: Source, settings: Settings, y: u32) -> f32 {
    return shaped(settings, source.marks, y, finite(draft_bits(source.start + y)));
}

fn draft_z_before(source: Source, settings: Settings, y: u32, end: u32) -> f32 {
    return select(draft_z(source, settings, min(y, end - 1u)), LOWEST, y >= end);
}

// Those of four tokens of which not all are before `end`; LOWEST for the others.
fn draft_z_four_before(source: Source, settings: Settings, y: u32, end: u32) -> vec4<f32> {
    return vec4(
        draft_z_before(source, settings, y, end), draft_z_before(source, settings, y + 1u, end),
        draft_z_before(source, settings, y + 2u, end), draft_z_before(source, settings, y + 3u, end));
}
