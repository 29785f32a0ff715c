// The draft logits from which children were drawn.

// Whether the children of `node` were drawn by chance from a row that is there.
fn has_draft(request: u32, node: u32) -> bool {
    let child = first_child(request, node);
    return requests[request].draw != DRAW_TOP_K
        && is_child(child, node, node_count(request))
        && tree_field(request, 7u, min(child, params.max_nodes - 1u)) < params.draft_rows;
}

fn draft_source(request: u32, node: u32) -> Source {
    // Siblings share the row that the first child names. A bad row is cut to a good one, which
    // `has_draft` has already refused.
    let child = min(first_child(request, node), params.max_nodes - 1u);
    let row = min(tree_field(request, 7u, child), max(params.draft_rows, 1u) - 1u);
    let start = (request * params.draft_rows + row) * params.row_stride;
    return Source(start, marks_of(request, node));
}

fn draft_z(source: Source, settings: Settings, y: u32) -> f32 {
    return shaped(settings, source.marks, y, finite(draft_bits(source.start + y)));
}
