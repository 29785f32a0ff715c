// Begins a verification: an empty outcome, the walk at the root, the rows of the first wave. And whether each blob is a
// tree, on the path to be walked and off it: what DraftTree::from_blob refuses on the CPU is a flag here. The walk
// never leaves a damaged blob's bounds, but sees only a part of it. One workgroup a request. Twin:
// tree::DraftTree::from_blob.

@group(0) @binding(4) var<storage, read_write> outcome: array<u32>; // as in verify/walk.wgsl

// Whether a later sibling has the token of `node`.
fn is_repeated(request: u32, node: u32, count: u32) -> bool {
    let token = token_of(request, node);
    var before = node;
    var sibling = next_sibling(request, node);
    while is_child(sibling, before, count) {
        if token_of(request, sibling) == token {
            return true;
        }
        before = sibling;
        sibling = next_sibling(request, sibling);
    }
    return false;
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let request = group.x;
    let count = node_count(request);
    // The lists of likely tokens, which follow, are written whole by verify/top_rows.wgsl.
    let start = request * params.outcome_words;
    for (var i = lane; i < min(params.outcome_words, 2u + 4u * params.max_nodes); i += WORKGROUP_X) {
        if i != 1u {
            outcome[start + i] = 0u;
        }
    }
    // Rules that look at all nodes together wait for the wave that has them all.
    let has_wave = walks_down(request) || params.width == params.max_nodes;
    let listed = select(0u, min(params.width, count), has_wave);
    let wave = wave_of(request);
    for (var i = lane; i < listed; i += WORKGROUP_X) {
        waves[wave + WAVE_HEADER + i] = i;
    }
    if lane == 0u {
        waves[wave] = listed;
        waves[wave + 1u] = 0u;
        let root = request * params.max_nodes;
        nodes[root].last = 0u;
        nodes[root].end = listed;
        nodes[root].over = 0u;
    }
    begin_links(count, lane);
    let distinct = requests[request].draw != DRAW_IID;
    let rule = requests[request].rule;
    let rejects = rule == RULE_REJECTION || rule == RULE_CHAIN || rule == RULE_BLOCK || rule == RULE_TRAVERSAL;
    let is_joint = requests[request].draw != DRAW_TOP_K && (rule == RULE_BLOCK || rule == RULE_TRAVERSAL);
    let asks_draft = rejects && requests[request].draw != DRAW_TOP_K;
    for (var node = lane; node < count; node += WORKGROUP_X) {
        var flags = flags_of(request, node, count);
        if node > 0u && asks_draft && tree_field(request, 7u, node) >= params.draft_rows {
            flags |= FLAG_IMPOSSIBLE_DRAFT;
        }
        // Parts are gone through in order, and a node's test needs that of its parent.
        if node > 0u && is_joint && params.drafts_in_parts == 1u && parent_of(request, node) < node
            && parent_of(request, node) > 0u
            && tree_field(request, 7u, node) < tree_field(request, 7u, parent_of(request, node)) {
            flags |= FLAG_IMPOSSIBLE_DRAFT;
        }
        if distinct && node > 0u && is_repeated(request, node, count) {
            flags |= FLAG_REPEATED_SIBLINGS;
        }
        if flags != 0u {
            atomicOr(&found, flags);
        }
    }
    let flags = end_links(count, lane);
    if lane == 0u {
        outcome[start + 1u] = flags;
    }
}
