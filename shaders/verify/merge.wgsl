// Joins the statistics of a row's blocks, and begins what later kernels keep for each node. One workgroup a
// (row of the wave, kind).

// What later kernels find of a row, from its first slot. One invocation does it.
fn begin(request: u32, row: u32, is_draft: bool) {
    let all = slots[0];
    let whole = Row(all.top, all.sum, 0u, NONE);
    if is_draft {
        nodes[row].drafted = whole;
        return;
    }
    nodes[row].after = whole;
    nodes[row].argmax = all.token;
    nodes[row].alpha = 1.0;
    nodes[row].s = select(0.0, 1.0, requests[request].rule == RULE_BLOCK);
    nodes[row].mass = 1.0;
    nodes[row].rest = 1.0;
    // By other rules the node's own test is written with its parent, whose row may have come in an earlier part.
    if requests[request].rule == RULE_BLOCK || requests[request].rule == RULE_TRAVERSAL {
        nodes[row].bound = 1.0;
        nodes[row].scale = 1.0;
        nodes[row].kept = 1.0;
        nodes[row].weight = 0.0;
    }
}

fn merge(request: u32, node: u32, kind: u32, lane: u32) {
    let row = request * params.max_nodes + node;
    let place = row - params.first_row;
    let is_draft = kind == 1u;
    let exists = !is_draft || has_draft(request, node);
    // A power of two, at most SLOTS.
    let count = 1u << (32u - countLeadingZeros(params.blocks - 1u));
    for (var i = lane; i < count; i += WORKGROUP_X) {
        var stat = NO_STAT;
        if exists && i < params.blocks {
            let at = stat_at(place, kind, i);
            stat = Stat(
                bitcast<f32>(scratch_word(at)), scratch_word(at + 1u),
                bitcast<f32>(scratch_word(at + 2u)));
        }
        slots[i] = stat;
    }
    join_slots(count, lane);
    if lane == 0u {
        begin(request, row, is_draft);
    }
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    for (var place = group.x; place < rows_of_wave(group.z); place += groups.x) {
        let node = node_of_wave(group.z, place);
        if is_bound(group.z, node) {
            merge(group.z, node, group.y, lane);
        }
        workgroupBarrier(); // orders the first slot before the next row's
    }
}
