// Joins the statistics of a row's blocks, and begins what later kernels keep for each node. One workgroup a
// (row of the bound part, kind).

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = params.first_row + group.x;
    let request = row / params.max_nodes;
    let node = row % params.max_nodes;
    if node >= node_count(request) {
        return;
    }
    let is_draft = group.y == 1u;
    let exists = !is_draft || has_draft(request, node);
    for (var i = lane; i < SLOTS; i += WORKGROUP_X) {
        var stat = NO_STAT;
        if exists && i < params.blocks {
            let at = stat_at(group.x, group.y, i);
            stat = Stat(
                bitcast<f32>(scratch_word(at)), scratch_word(at + 1u),
                bitcast<f32>(scratch_word(at + 2u)));
        }
        slots[i] = stat;
    }
    join_slots(lane);
    if lane != 0u {
        return;
    }
    let all = slots[0];
    let whole = Row(all.top, all.sum, 0u, NONE);
    if is_draft {
        nodes[row].drafted = whole;
        return;
    }
    nodes[row].after = whole;
    nodes[row].argmax = all.token;
    nodes[row].bound = 1.0;
    nodes[row].scale = 1.0;
    nodes[row].alpha = 1.0;
    nodes[row].s = select(0.0, 1.0, requests[request].rule == RULE_BLOCK);
    nodes[row].mass = 1.0;
    nodes[row].rest = 1.0;
    nodes[row].kept = 1.0;
    nodes[row].weight = 0.0;
}
