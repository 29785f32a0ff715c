// The token after the last accepted node: the argmax, or one sampled from what is left of the target's
// distribution. One workgroup a request; it works where the node's row is in the bound part. Twin:
// VerifyInput::finish.

@group(0) @binding(7) var<storage, read_write> outcome: array<u32>; // as in verify/walk.wgsl

var<workgroup> chunk_sums: array<f32, WORKGROUP_X>;
var<workgroup> chosen: vec2<u32>; // the chunk that holds the token, and what remains to be passed in it

// What is left of a removed token: something after traversal verification of draws without replacement.
fn removed_weight(request: u32, node: u32, draws: bool, y: u32) -> f32 {
    if !draws || requests[request].rule != RULE_TRAVERSAL {
        return 0.0;
    }
    let count = node_count(request);
    var before = node;
    var child = first_child(request, node);
    while is_child(child, before, count) {
        if token_of(request, child) == y {
            return nodes[request * params.max_nodes + child].weight;
        }
        before = child;
        child = next_sibling(request, child);
    }
    return 0.0;
}

// What is left of y's probability.
fn residual(source: Source, draft: Source, state: NodeState, removed: u32, draws: bool, y: u32) -> f32 {
    let p = probability(source, settings_of(source), state.after, y);
    if is_removed(source.request, source.node, NONE - 1u, removed, y) {
        return removed_weight(source.request, source.node, draws, y);
    }
    if !draws {
        return p;
    }
    let q = probability(draft, settings_of(draft), state.drafted, y);
    return max(fma(state.alpha, p, -state.s * q), 0.0);
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let request = group.x;
    let base = request * params.max_nodes;
    let node = nodes[base].last;
    let row = base + node;
    // The part that is bound: whether the row is in it is the same for the whole workgroup, but the
    // compiler can't know, so everyone goes on to the barriers and only the end is for those inside.
    let inside = row >= params.first_row && row < params.first_row + params.part_rows;
    let source = target_source(request, select(params.first_row - base, node, inside));
    let draft = draft_source(request, node);
    let state = nodes[row];
    let rule = requests[request].rule;
    let joint = rule == RULE_BLOCK || rule == RULE_TRAVERSAL;
    let rejects = rule == RULE_REJECTION || rule == RULE_CHAIN || joint;
    let draws = rejects && has_draft(request, node);
    let replaces = requests[request].draw == DRAW_IID || (rule == RULE_BLOCK && draws);
    let removed = select(0u, removed_mask(request, node, NONE - 1u), rejects && !replaces);

    // Each invocation sums a run of tokens, so that runs in the order of invocations are the vocabulary.
    let run = (params.vocabulary + WORKGROUP_X - 1u) / WORKGROUP_X;
    let begin = lane * run;
    let end = select(begin, min(begin + run, params.vocabulary), inside && rule != RULE_GREEDY);
    var sum = 0.0;
    for (var y = begin; y < end; y++) {
        sum += residual(source, draft, state, removed, draws, y);
    }
    // A residual lost to rounding gives way to the target's own distribution.
    let lost = sum_all(sum, lane) <= 0.0;
    if lost {
        sum = 0.0;
        for (var y = begin; y < end; y++) {
            sum += probability(source, settings_of(source), state.after, y);
        }
    }
    chunk_sums[lane] = sum;
    workgroupBarrier(); // orders the runs' sums before the scan over them
    if lane == 0u {
        var total = 0.0;
        for (var i = 0u; i < WORKGROUP_X; i++) {
            total += chunk_sums[i];
        }
        let wanted = uniform_number(nodes[base].word) * total;
        var passed = 0.0;
        chosen = vec2(NONE, 0u);
        for (var i = 0u; i < WORKGROUP_X; i++) {
            if chunk_sums[i] > 0.0 {
                // The last positive run stays chosen where rounding lets none pass.
                chosen = vec2(i, bitcast<u32>(wanted - passed));
                passed += chunk_sums[i];
                if passed > wanted {
                    break;
                }
            }
        }
    }
    workgroupBarrier(); // orders the choice before it is read
    if !inside || nodes[base].accepted >= params.max_nodes {
        return;
    }
    var bonus = NONE;
    if rule == RULE_GREEDY {
        if lane != 0u {
            return;
        }
        bonus = state.argmax;
    } else {
        let nothing = chosen.x == NONE;
        if lane != select(chosen.x, 0u, nothing) {
            return;
        }
        let wanted = bitcast<f32>(chosen.y);
        var passed = 0.0;
        for (var y = begin; y < end; y++) {
            var weight: f32;
            if lost {
                weight = probability(source, settings_of(source), state.after, y);
            } else {
                weight = residual(source, draft, state, removed, draws, y);
            }
            if weight > 0.0 {
                bonus = y;
                passed += weight;
                if passed > wanted {
                    break;
                }
            }
        }
    }
    let n = params.max_nodes;
    let at = request * params.outcome_words + 2u + n + nodes[base].accepted;
    outcome[at] = bonus;
    if bonus < params.vocabulary {
        let raw = exponential(raw_logit(source, bonus), state.raw_max) / state.raw_sum;
        let p = probability(source, settings_of(source), state.after, bonus);
        outcome[at + n] = bitcast<u32>(select(LOWEST, log(raw), raw > 0.0));
        outcome[at + 2u * n] = bitcast<u32>(select(LOWEST, log(p), p > 0.0));
    }
}
