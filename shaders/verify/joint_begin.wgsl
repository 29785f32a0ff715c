// Begins the tests of verify/joint.wgsl: finds the first child, and for block verification, where no sum over tokens has
// a say in it, how likely the path to each node is kept. One invocation a request.

fn block_child(request: u32, node: u32, child: u32) {
    let at = request * params.max_nodes + node;
    let kept = nodes[at].kept;
    let pair = pair_of(request, node);
    let token = min(token_of(request, child), params.vocabulary - 1u);
    let p = target_p(pair, token);
    var q = 1.0; // all mass on the token, where no chance was involved
    if has_draft(request, node) {
        q = draft_q(pair, token);
    } else {
        // Drawn by chance from a row that is not there.
        q = select(1.0, 0.0, requests[request].draw != DRAW_TOP_K);
        set_block_bound(at, kept * max(1.0 - p, 0.0));
    }
    let below = request * params.max_nodes + child;
    begin_node(below, kept_child(kept, p, q));
    nodes[below].alpha = nodes[below].kept;
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(@builtin(workgroup_id) group: vec3<u32>) {
    let request = group.x;
    let rule = requests[request].rule;
    let count = node_count(request);
    let first = next_child(request, 1u);
    nodes[request * params.max_nodes].tested = first;
    if rule == RULE_BLOCK {
        for (var child = first; child < count; child = next_child(request, child + 1u)) {
            block_child(request, parent_of(request, child), child);
        }
    }
}
