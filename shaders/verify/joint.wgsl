// Bounds of the rules that decide on several tokens together: block and traversal verification. How likely a
// node is kept depends on chance only through which nodes were cut off before it is tested, and those are
// always all its descendants; so every bound is known before the first random number. One workgroup a
// request goes through its nodes in the bound part, parents first. Twins: reference::verify block, traversal.

// What goes on to the children: `kept` as if nothing followed the child; below 0 where it can't be drawn.
fn kept_child(kept: f32, p: f32, q: f32) -> f32 {
    return select(-1.0, min(1.0, kept * p / q), q > 0.0 && kept >= 0.0);
}

// The mass of max(alpha p - s q, 0) and of q, over tokens that were not removed with children before `through`.
fn masses(
    request: u32, node: u32, alpha: f32, s: f32, through: u32, lane: u32,
) -> vec2<f32> {
    let source = target_source(request, node);
    let draft = draft_source(request, node);
    let after = nodes[request * params.max_nodes + node].after;
    let drafted = nodes[request * params.max_nodes + node].drafted;
    let keeps = requests[request].draw == DRAW_IID || requests[request].rule == RULE_BLOCK;
    let mask = select(removed_mask(request, node, through), 0u, keeps);
    var mass = 0.0;
    var rest = 0.0;
    for (var y = lane; y < params.vocabulary; y += WORKGROUP_X) {
        if !is_removed(request, node, through, mask, y) {
            let q = probability(draft, requests[request].drafting, drafted, y);
            mass += max(fma(alpha, probability(source, requests[request].sampling, after, y), -s * q), 0.0);
            rest += q;
        }
    }
    return vec2(sum_all(mass, lane), sum_all(rest, lane));
}

// Sun et al. 2024, algorithm 2: Z / (Z + 1 - a), and a itself for the last node.
fn block_node(request: u32, node: u32, count: u32, kept: f32, lane: u32) {
    let base = request * params.max_nodes;
    let child = first_child(request, node);
    var bound = kept;
    var scale = 1.0;
    if is_child(child, node, count) {
        let token = min(token_of(request, child), params.vocabulary - 1u);
        let p = probability(
            target_source(request, node), requests[request].sampling, nodes[base + node].after, token);
        var q = 1.0; // all mass on the token, where no chance was involved
        if has_draft(request, node) {
            q = probability(
                draft_source(request, node), requests[request].drafting, nodes[base + node].drafted, token);
            bound = masses(request, node, kept, 1.0, node, lane).x;
        } else {
            if requests[request].draw != DRAW_TOP_K {
                q = 0.0; // drawn by chance from a row that is not there
            }
            bound = kept * max(1.0 - p, 0.0);
        }
        scale = bound + 1.0 - kept;
        if lane == 0u {
            nodes[base + child].kept = kept_child(kept, p, q);
        }
    }
    if lane == 0u {
        nodes[base + node].bound = bound;
        nodes[base + node].scale = select(scale, -1.0, kept < 0.0);
        nodes[base + node].alpha = kept;
        nodes[base + node].s = 1.0;
    }
}

// Weng et al. 2025, algorithm 2, as three numbers: what a node still owes is max(alpha p - s q, 0), with the
// weight that a token had when it was removed, if children are drawn without replacement.
fn traversal_node(request: u32, node: u32, count: u32, kept_in: f32, lane: u32) {
    let base = request * params.max_nodes;
    let draws = has_draft(request, node);
    let missing = !draws && requests[request].draw != DRAW_TOP_K;
    let replaces = requests[request].draw == DRAW_IID;
    let source = target_source(request, node);
    let draft = draft_source(request, node);
    var kept = max(kept_in, 0.0);
    var alpha = 1.0;
    var s = 0.0;
    var mass = 1.0; // of p on what is left, where no chance was involved
    var rest = 1.0; // of q on tokens that may still be drawn
    var before = node;
    var child = first_child(request, node);
    while is_child(child, before, count) {
        let token = min(token_of(request, child), params.vocabulary - 1u);
        let p = probability(source, requests[request].sampling, nodes[base + node].after, token);
        if draws {
            let q = probability(draft, requests[request].drafting, nodes[base + node].drafted, token);
            let owed = max(fma(alpha, p, -s * q), 0.0);
            let next_alpha = kept * alpha;
            let next_s = fma(kept, s, select(0.0, 1.0 / rest, rest > 0.0));
            let sums = masses(request, node, next_alpha, next_s, before, lane);
            var total = sums.x;
            if !replaces {
                // Tokens removed before keep their share.
                var earlier = first_child(request, node);
                var last = node;
                while is_child(earlier, last, count) && earlier < child {
                    total += kept * nodes[base + earlier].weight;
                    last = earlier;
                    earlier = next_sibling(request, earlier);
                }
            }
            let inverse = select(0.0, 1.0 / total, total > 0.0);
            workgroupBarrier(); // orders the reads of the weights before they change
            if lane == 0u {
                nodes[base + child].kept = select(kept_child(kept, owed * rest, q), -1.0, kept_in < 0.0);
                nodes[base + child].weight = max(fma(next_alpha, p, -next_s * q), 0.0) * inverse;
                var earlier = first_child(request, node);
                var last = node;
                while is_child(earlier, last, count) && earlier < child {
                    nodes[base + earlier].weight *= kept * inverse;
                    last = earlier;
                    earlier = next_sibling(request, earlier);
                }
            }
            storageBarrier();   // orders the weights before the next child reads them
            workgroupBarrier();
            alpha = next_alpha * inverse;
            s = next_s * inverse;
            kept = select(0.0, total / (total + 1.0 - kept), total > 0.0);
            if !replaces {
                rest = sums.y - q;
                rest = select(rest, 0.0, rest < 1e-6 * sums.y);
            }
        } else {
            if lane == 0u {
                let share = select(0.0, p / mass, mass > 0.0);
                let own = min(1.0, kept * share);
                nodes[base + child].kept = select(own, -1.0, missing || kept_in < 0.0);
            }
            let left = max(mass - p, 0.0);
            let total = select(0.0, kept * left / mass, mass > 0.0);
            kept = select(0.0, total / (total + 1.0 - kept), total > 0.0);
            mass = left;
        }
        before = child;
        child = next_sibling(request, child);
    }
    if lane == 0u {
        nodes[base + node].bound = kept;
        nodes[base + node].scale = select(1.0, -1.0, kept_in < 0.0);
        nodes[base + node].alpha = alpha;
        nodes[base + node].s = s;
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
    let base = request * params.max_nodes;
    let count = node_count(request);
    let first = max(params.first_row, base);
    let end = min(params.first_row + params.part_rows, base + count);
    for (var row = first; row < end; row++) {
        let node = row - base;
        let kept = select(nodes[row].kept, 1.0, node == 0u);
        if rule == RULE_BLOCK {
            block_node(request, node, count, kept, lane);
        } else {
            traversal_node(request, node, count, kept, lane);
        }
        storageBarrier();   // orders what the children got before they read it
        workgroupBarrier();
    }
}
