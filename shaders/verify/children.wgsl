// How each child of a node is tested. A test depends on chance only through the answers of earlier
// ones, and a child is tested only when all earlier siblings were rejected: so bounds and scales of all
// nodes are known before the first random number. One workgroup a row of the bound part. Twin:
// reference::verify::Residual.

fn log_or_lowest(p: f32) -> f32 {
    return select(LOWEST, log(p), p > 0.0);
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = params.first_row + group.x;
    let request = row / params.max_nodes;
    let node = row % params.max_nodes;
    let count = node_count(request);
    if node >= count || first_child(request, node) >= count {
        return;
    }
    let rule = requests[request].rule;
    let draw = requests[request].draw;
    let base = request * params.max_nodes;
    let after = nodes[base + node].after;
    let drafted = nodes[base + node].drafted;
    let source = target_source(request, node);
    let settings = settings_of(source);
    let rejects = rule == RULE_REJECTION || rule == RULE_CHAIN;
    let draws = rejects && has_draft(request, node);
    let draft = draft_source(request, node);
    let drafting = settings_of(draft);

    var bar = 0.0;
    if rule == RULE_THRESHOLD {
        bar = requests[request].numbers.x;
    } else if rule == RULE_TYPICAL {
        let delta = requests[request].numbers.y * exp(-nodes[base + node].entropy);
        bar = min(requests[request].numbers.x, delta);
    }

    var s = 0.0;
    var mass = 1.0; // of the residual max(p - s q, 0)
    var rest = 1.0; // of q on tokens that may still be drawn
    var before = node;
    var child = first_child(request, node);
    while is_child(child, before, count) {
        let token = min(token_of(request, child), params.vocabulary - 1u);
        let p = probability(source, settings, after, token);
        var bound = p;
        var scale = mass;
        if draws {
            let q = probability(draft, drafting, drafted, token);
            bound = rest * max(fma(-s, q, p), 0.0);
            scale = select(-1.0, mass * q, q > 0.0);
        } else if rejects && draw != DRAW_TOP_K {
            scale = -1.0; // drawn by chance from a row that is not there
        } else if !rejects {
            // Lossy rules: accepted iff p is above the bar, that is 1 * bar < p.
            scale = bar;
        }
        if lane == 0u {
            let raw = exponential(raw_logit(source, token), nodes[base + node].raw_max);
            nodes[base + child].bound = bound;
            nodes[base + child].scale = scale;
            nodes[base + child].log_raw = log_or_lowest(raw / nodes[base + node].raw_sum);
            nodes[base + child].log_p = log_or_lowest(p);
        }
        // What is left when this child is rejected too.
        if draws {
            if rest > 0.0 {
                s += mass / rest;
            }
            let follower = next_sibling(request, child);
            if !is_child(follower, child, count) {
                break; // nobody asks for the mass that is left after the last child
            }
            let keeps = draw == DRAW_IID;
            let mask = select(removed_mask(request, node, child), 0u, keeps);
            var own_mass = 0.0;
            var own_rest = 0.0;
            for (var y = lane; y < params.vocabulary; y += WORKGROUP_X) {
                let q_y = probability(draft, drafting, drafted, y);
                let p_y = probability(source, settings, after, y);
                if !is_removed(request, node, child, mask, y) {
                    own_mass += max(fma(-s, q_y, p_y), 0.0);
                    own_rest += q_y;
                }
            }
            mass = sum_all(own_mass, lane);
            rest = sum_all(own_rest, lane);
        } else {
            mass = max(mass - p, 0.0);
        }
        before = child;
        child = next_sibling(request, child);
    }
    if lane == 0u {
        nodes[base + node].alpha = 1.0;
        nodes[base + node].s = s;
    }
}
