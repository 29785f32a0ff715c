// Bounds of the rules that decide on several tokens together: block and traversal verification. How likely a
// node is kept depends on chance only through which nodes were cut off before it is tested, and those are
// always all its descendants; so every bound is known before the first random number. One workgroup a
// request goes through the children from params.first_child to params.end_child whose parents are in the
// bound part, in their order: parents and earlier siblings come before. Twins: reference::verify block,
// traversal.

// What goes on to the children: `kept` as if nothing followed the child; below 0 where it can't be drawn.
fn kept_child(kept: f32, p: f32, q: f32) -> f32 {
    return select(-1.0, min(1.0, kept * p / q), q > 0.0 && kept >= 0.0);
}

// A node whose children were not looked at yet.
fn begin_node(at: u32, kept: f32) {
    nodes[at].kept = kept;
    nodes[at].bound = max(kept, 0.0);
    nodes[at].scale = select(1.0, -1.0, kept < 0.0);
}

// Sun et al. 2024, algorithm 2: Z / (Z + 1 - a), and a itself for the last node.
fn block_child(request: u32, node: u32, child: u32, lane: u32) {
    let at = request * params.max_nodes + node;
    let kept = nodes[at].kept;
    let pair = pair_of(request, node);
    let token = min(token_of(request, child), params.vocabulary - 1u);
    let p = target_p(pair, token);
    var q = 1.0; // all mass on the token, where no chance was involved
    var bound = kept * max(1.0 - p, 0.0);
    if has_draft(request, node) {
        q = draft_q(pair, token);
        bound = masses(request, node, pair, kept, 1.0, 0u, true, lane).x;
    } else if requests[request].draw != DRAW_TOP_K {
        q = 0.0; // drawn by chance from a row that is not there
    }
    if lane == 0u {
        nodes[at].bound = bound;
        nodes[at].scale = select(bound + 1.0 - kept, -1.0, kept < 0.0);
        let below = request * params.max_nodes + child;
        begin_node(below, kept_child(kept, p, q));
        nodes[below].alpha = nodes[below].kept;
    }
}

// Weng et al. 2025, algorithm 2, as three numbers: what a node still owes is max(alpha p - s q, 0), with the
// weight that a token had when it was removed, if children are drawn without replacement.
fn traversal_child(request: u32, node: u32, child: u32, lane: u32) {
    let base = request * params.max_nodes;
    let at = base + node;
    let state = nodes[at];
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
        let next_alpha = kept * state.alpha;
        let next_s = fma(kept, state.s, select(0.0, 1.0 / state.rest, state.rest > 0.0));
        let sums = masses(request, node, pair, next_alpha, next_s, child, replaces, lane);
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
            nodes[base + child].weight = max(fma(next_alpha, p, -next_s * q), 0.0) * inverse;
            nodes[at].alpha = next_alpha * inverse;
            nodes[at].s = next_s * inverse;
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
    let end = min(node_count(request), params.end_child);
    for (var child = params.first_child; child < end; child++) {
        let node = parent_of(request, child);
        if node < child && is_bound(request, node) {
            if rule == RULE_BLOCK {
                block_child(request, node, child, lane);
            } else {
                traversal_child(request, node, child, lane);
            }
            storageBarrier();   // orders what the nodes got before the next child reads it
            workgroupBarrier();
        }
    }
}
