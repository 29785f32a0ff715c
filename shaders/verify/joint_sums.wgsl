// Sums over each block of a row for verify/joint.wgsl, where children are drawn by chance: with traversal verification for
// the child whose turn it is, with block verification for every node. One workgroup some blocks of a row.

var<workgroup> tested: u32;

fn sum_span(
    request: u32, node: u32, alpha: f32, s: f32, limit: u32, replaces: bool, span: u32, lane: u32,
) {
    let pair = pair_of(request, node);
    let last = min(span * SPAN + SPAN, params.blocks);
    for (var block = span * SPAN; block < last; block++) {
        let own = block_masses(request, node, pair, alpha, s, limit, replaces, block, lane);
        let sums = vec2(sum_all(own.x, lane), sum_all(own.y, lane));
        if lane == 0u {
            set_block_sums(request, node, block, sums);
        }
    }
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let request = group.z;
    let rule = requests[request].rule;
    if rule != RULE_BLOCK && rule != RULE_TRAVERSAL {
        return;
    }
    let base = request * params.max_nodes;
    if lane == 0u {
        tested = nodes[base].tested;
    }
    let child = workgroupUniformLoad(&tested);
    let count = node_count(request);
    if child >= count {
        return;
    }
    if rule == RULE_BLOCK {
        for (var node = group.y; node < count; node += groups.y) {
            if is_bound(request, node) && has_draft(request, node) {
                sum_span(request, node, nodes[base + node].kept, 1.0, 0u, true, group.x, lane);
            }
        }
    } else if group.y == 0u {
        let node = min(parent_of(request, child), count - 1u);
        if has_draft(request, node) {
            let removal = removal_of(request, node);
            let replaces = requests[request].draw == DRAW_IID;
            sum_span(request, node, removal.alpha, removal.s, child, replaces, group.x, lane);
        }
    }
}
