// Bounds of the rules that decide on several tokens together, see verify/joint_state.wgsl, from the sums of
// verify/joint_sums.wgsl: of block verification all at once; of traversal verification child by child, up to the next one
// that needs sums. One workgroup a request.

var<workgroup> tested: u32;

fn block_nodes(request: u32, count: u32, lane: u32) {
    for (var node = lane; node < count; node += WORKGROUP_X) {
        if is_bound(request, node) && has_draft(request, node) {
            set_block_bound(request * params.max_nodes + node, row_sums(request, node).x);
        }
    }
}

// One child of traversal verification. With children drawn without replacement a removed token keeps the weight that it had
// when it was removed.
fn traversal_child(request: u32, node: u32, child: u32, lane: u32) {
    let base = request * params.max_nodes;
    let at = base + node;
    let state = nodes[at];
    let next = removal_of(request, node);
    let sums = row_sums(request, node);
    workgroupBarrier(); // orders the reads of the state before it changes
    let impossible = state.kept < 0.0;
    let kept = state.bound; // once the children before are removed
    let pair = pair_of(request, node);
    let token = min(token_of(request, child), params.vocabulary - 1u);
    let p = target_p(pair, token);
    if has_draft(request, node) {
        let replaces = requests[request].draw == DRAW_IID;
        let q = draft_q(pair, token);
        let owed = max(fma(state.alpha, p, -state.s * q), 0.0);
        // Tokens removed before keep their share.
        var own = 0.0;
        for (var i = node + 1u + lane; i < child; i += WORKGROUP_X) {
            own += select(0.0, nodes[base + i].weight, parent_of(request, i) == node && !replaces);
        }
        let total = fma(kept, sum_all(own, lane), sums.x);
        let inverse = select(0.0, 1.0 / total, total > 0.0);
        for (var i = node + 1u + lane; i < child; i += WORKGROUP_X) {
            if parent_of(request, i) == node {
                nodes[base + i].weight *= kept * inverse;
            }
        }
        if lane == 0u {
            let own_kept = kept_child(kept, owed * state.rest, q);
            begin_node(base + child, select(own_kept, -1.0, impossible));
            nodes[base + child].weight = max(fma(next.alpha, p, -next.s * q), 0.0) * inverse;
            nodes[at].alpha = next.alpha * inverse;
            nodes[at].s = next.s * inverse;
            nodes[at].bound = select(0.0, total / (total + 1.0 - kept), total > 0.0);
            let rest = sums.y - q;
            nodes[at].rest = select(select(rest, 0.0, rest < 1e-6 * sums.y), state.rest, replaces);
        }
    } else if lane == 0u {
        let missing = requests[request].draw != DRAW_TOP_K; // drawn by chance from a row that is not there
        let share = select(0.0, p / state.mass, state.mass > 0.0);
        begin_node(base + child, select(min(1.0, kept * share), -1.0, missing || impossible));
        let left = max(state.mass - p, 0.0);
        let total = select(0.0, kept * left / state.mass, state.mass > 0.0);
        nodes[at].bound = select(0.0, total / (total + 1.0 - kept), total > 0.0);
        nodes[at].mass = left;
    }
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let request = group.x;
    let rule = requests[request].rule;
    if rule != RULE_BLOCK && rule != RULE_TRAVERSAL {
        return;
    }
    let root = request * params.max_nodes;
    if lane == 0u {
        tested = nodes[root].tested;
    }
    let first = workgroupUniformLoad(&tested);
    let count = node_count(request);
    var child = first;
    if rule == RULE_BLOCK {
        if first < count {
            block_nodes(request, count, lane);
        }
        child = count;
    }
    while child < count && child - first < TURN_CHILDREN {
        let node = min(parent_of(request, child), count - 1u);
        if child != first && has_draft(request, node) {
            break; // its sums come first
        }
        traversal_child(request, node, child, lane);
        storageBarrier();   // orders what the nodes got before the next child reads it
        workgroupBarrier();
        child = next_child(request, child + 1u);
    }
    if lane == 0u {
        nodes[root].tested = child;
    }
}
