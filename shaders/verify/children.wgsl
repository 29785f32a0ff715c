// How each child of a node is tested. A test depends on chance only through the answers of earlier
// ones, and a child is tested only when all earlier siblings were rejected: so bounds and scales of all
// nodes are known before the first random number. One workgroup a row of the wave, for the children
// from params.first_child to params.end_child. Twin: reference::verify::Residual.

fn log_or_lowest(p: f32) -> f32 {
    return select(LOWEST, log(p), p > 0.0);
}

fn test_children(request: u32, node: u32, lane: u32) {
    let row = request * params.max_nodes + node;
    let count = node_count(request);
    if first_child(request, node) >= count {
        return;
    }
    let rule = requests[request].rule;
    let draw = requests[request].draw;
    let base = request * params.max_nodes;
    let rejects = rule == RULE_REJECTION || rule == RULE_CHAIN;
    let draws = rejects && has_draft(request, node);
    let joint = rule == RULE_BLOCK || rule == RULE_TRAVERSAL;
    let pair = pair_of(request, node);

    var bar = 0.0;
    if rule == RULE_THRESHOLD {
        bar = requests[request].numbers.x;
    } else if rule == RULE_TYPICAL {
        let delta = requests[request].numbers.y * exp(-nodes[row].entropy);
        bar = min(requests[request].numbers.x, delta);
    }

    // As the children before params.first_child left them.
    var s = nodes[row].s;
    var mass = nodes[row].mass; // of the residual max(p - s q, 0)
    var rest = nodes[row].rest; // of q on tokens that may still be drawn
    workgroupBarrier(); // orders these reads before the writes at the end
    var before = node;
    var child = first_child(request, node);
    while is_child(child, before, count) && child < params.end_child {
        let follower = next_sibling(request, child);
        if child >= params.first_child {
            let token = min(token_of(request, child), params.vocabulary - 1u);
            let p = target_p(pair, token);
            var bound = p;
            var scale = mass;
            if draws {
                let q = draft_q(pair, token);
                bound = rest * max(fma(-s, q, p), 0.0);
                scale = select(-1.0, mass * q, q > 0.0);
            } else if rejects && draw != DRAW_TOP_K {
                scale = -1.0; // drawn by chance from a row that is not there
            } else if !rejects {
                // Lossy rules: accepted iff p is above the bar, that is 1 * bar < p.
                scale = bar;
            }
            if lane == 0u {
                nodes[base + child].log_p = log_or_lowest(p);
                if !joint {
                    nodes[base + child].bound = bound;
                    nodes[base + child].scale = scale;
                }
            }
            // What is left when this child is rejected too.
            if draws {
                if rest > 0.0 {
                    s += mass / rest;
                }
                if is_child(follower, child, count) {
                    let sums = masses(request, node, pair, 1.0, s, child + 1u, draw == DRAW_IID, lane);
                    mass = sums.x;
                    rest = sums.y;
                }
            } else {
                mass = max(mass - p, 0.0);
            }
        }
        before = child;
        child = follower;
    }
    if lane == 0u && !joint {
        nodes[row].s = s;
        nodes[row].mass = mass;
        nodes[row].rest = rest;
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
            test_children(group.z, node, lane);
        }
        workgroupBarrier(); // orders what is read of this row before the next
    }
}
