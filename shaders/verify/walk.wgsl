// The decisions: from the root down, by rule, with the random numbers of each child. One invocation a
// request, once a wave: everything that costs was done before for the nodes of the wave. Twin: reference::verify.
//
// Outcome: [0] accepted nodes below the root, [1] error flags, then N each: path (nodes, the root first),
// tokens (of the accepted nodes, then the bonus token), log-probabilities of the tokens under the raw
// logits and under the processed ones. Unused entries are zero, which verify/check.wgsl sees to. verify/sample.wgsl
// writes the bonus token and the raw log-probabilities.

@group(0) @binding(4) var<storage, read> lengths: array<vec4<u32>>; // [request]: (rows, past, -, -)
@group(0) @binding(5) var<storage, read_write> outcome: array<u32>;

// How a walk goes on from a node.
struct Found {
    child: u32, // NONE: the walk ends
    flags: u32,
}

fn random_word(request: u32, position: u32, child: u32, purpose: u32, block: u32) -> u32 {
    return philox4x32_10(vec4(position, child, purpose, block), requests[request].seed).x;
}

// Lists the next wave: `node` and what is below it, as many as there is room for. Gives the node that comes after
// them all.
fn list_wave(request: u32, node: u32, count: u32) -> u32 {
    let wave = wave_of(request);
    let entered = tree_field(request, 5u, node);
    let left = tree_field(request, 6u, node);
    var listed = 0u;
    var end = node;
    while end < count && listed < params.width {
        let place = tree_field(request, 5u, end);
        if place >= entered && place < left {
            waves[wave + WAVE_HEADER + listed] = end;
            listed++;
        }
        end++;
    }
    waves[wave] = listed;
    return end;
}

// Writes the path down to `last`, and lists its nodes for the kernels after the walk.
fn finish(request: u32, last: u32, count: u32) {
    let base = request * params.max_nodes;
    let start = request * params.outcome_words;
    let wave = wave_of(request);
    let n = params.max_nodes;
    var accepted = 0u;
    var at = last;
    while at != 0u && accepted < count {
        accepted++;
        at = min(parent_of(request, at), at - 1u);
    }
    at = last;
    for (var i = accepted; i > 0u; i--) {
        outcome[start + 2u + i] = at;
        outcome[start + 2u + n + i - 1u] = token_of(request, at);
        outcome[start + 2u + 3u * n + i - 1u] = bitcast<u32>(nodes[base + at].log_p);
        waves[wave + WAVE_HEADER + i] = at;
        at = min(parent_of(request, at), at - 1u);
    }
    waves[wave + WAVE_HEADER] = 0u;
    waves[wave] = 0u; // nothing is left for later waves
    waves[wave + 1u] = select(accepted + 1u, 0u, count == 0u);
    waves[wave + 2u] = last;
    if nodes[base + last].after.sum <= 0.0 {
        outcome[start + 1u] |= FLAG_NO_SUPPORT;
    }
    outcome[start] = accepted;
    nodes[base].accepted = accepted;
    let position = lengths[request].y + accepted + 1u;
    nodes[base].word = random_word(request, position, 0u, PURPOSE_SAMPLE, 0u);
}

// The first child that its rule accepts.
fn accepted_child(request: u32, node: u32, count: u32) -> Found {
    let base = request * params.max_nodes;
    let rule = requests[request].rule;
    let position = lengths[request].y + tree_field(request, 4u, node) + 1u;
    var before = node;
    var child = first_child(request, node);
    var ordinal = 0u;
    while is_child(child, before, count) {
        if token_of(request, child) >= params.vocabulary {
            return Found(NONE, FLAG_TOKEN_OUTSIDE);
        }
        if rule == RULE_CHAIN && ordinal > 0u {
            return Found(NONE, FLAG_NOT_A_CHAIN);
        }
        if rule == RULE_GREEDY {
            if token_of(request, child) == nodes[base + node].argmax {
                return Found(child, 0u);
            }
        } else {
            let state = nodes[base + child];
            if state.scale < 0.0 {
                return Found(NONE, FLAG_IMPOSSIBLE_DRAFT);
            }
            let u = uniform_number(random_word(request, position, ordinal, PURPOSE_ACCEPT, 0u));
            if u * state.scale < state.bound {
                return Found(child, 0u);
            }
        }
        before = child;
        child = next_sibling(request, child);
        ordinal++;
    }
    return Found(NONE, select(FLAG_BAD_TREE, 0u, child == NONE));
}

// Whether the test of a node passes that is decided on together with others. Their draws name the depth
// too: see reference::philox.
fn is_kept(request: u32, node: u32, ordinal: u32, purpose: u32) -> bool {
    let depth = tree_field(request, 4u, node);
    let u = uniform_number(random_word(request, lengths[request].y + depth, ordinal, purpose, depth));
    let at = request * params.max_nodes + node;
    return u * nodes[at].scale < nodes[at].bound;
}

// Whether a child can be looked at: its token is one, and was drawn from its row.
fn child_flags(request: u32, child: u32) -> u32 {
    let outside = token_of(request, child) >= params.vocabulary;
    let impossible = nodes[request * params.max_nodes + child].scale < 0.0;
    return select(0u, FLAG_TOKEN_OUTSIDE, outside) | select(0u, FLAG_IMPOSSIBLE_DRAFT, impossible);
}

// Of a chain, the last node whose own test passes.
fn longest_block(request: u32, count: u32) -> Found {
    var last = 0u;
    var node = 0u;
    var child = first_child(request, 0u);
    while is_child(child, node, count) {
        let flags = child_flags(request, child)
            | select(FLAG_NOT_A_CHAIN, 0u, next_sibling(request, child) == NONE);
        if flags != 0u {
            return Found(0u, flags);
        }
        if is_kept(request, child, 0u, PURPOSE_BLOCK) {
            last = child;
        }
        node = child;
        child = first_child(request, node);
    }
    return Found(last, select(FLAG_BAD_TREE, 0u, child == NONE));
}

// From the leftmost leaf on, the first node whose test passes once all its descendants failed theirs.
fn first_kept(request: u32, count: u32) -> Found {
    var node = 0u;
    var descends = true;
    // Each node is entered once and left once.
    for (var i = 0u; i < 2u * count; i++) {
        if descends {
            let child = first_child(request, node);
            if is_child(child, node, count) {
                let flags = child_flags(request, child);
                if flags != 0u {
                    return Found(0u, flags);
                }
                node = child;
                continue;
            }
            if child != NONE {
                return Found(0u, FLAG_BAD_TREE);
            }
        }
        if node == 0u || is_kept(request, node, node, PURPOSE_TRAVERSAL) {
            return Found(node, 0u);
        }
        let sibling = next_sibling(request, node);
        descends = is_child(sibling, node, count);
        if descends {
            let flags = child_flags(request, sibling);
            if flags != 0u {
                return Found(0u, flags);
            }
            node = sibling;
        } else {
            let parent = parent_of(request, node);
            if sibling != NONE || parent >= node {
                return Found(0u, FLAG_BAD_TREE);
            }
            node = parent;
        }
    }
    return Found(0u, FLAG_BAD_TREE);
}

// The deepest node of which every token on the way is above its bar; of equally deep ones that with the
// likeliest path, then the lowest.
fn longest_path(request: u32, count: u32) -> u32 {
    let base = request * params.max_nodes;
    var best = 0u;
    var best_depth = 0u;
    var best_log = 0.0;
    for (var node = 1u; node < count; node++) {
        var log_p = 0.0;
        var depth = 0u;
        var kept = true;
        var at = node;
        // A parent comes before its child, so the walk ends at the root.
        while kept && at != 0u && at < count {
            let state = nodes[base + at];
            kept = state.scale < state.bound;
            log_p += state.log_p;
            depth++;
            let parent = parent_of(request, at);
            kept = kept && parent < at;
            at = parent;
        }
        if kept && (depth > best_depth || (depth == best_depth && log_p > best_log)) {
            best = node;
            best_depth = depth;
            best_log = log_p;
        }
    }
    return best;
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(@builtin(workgroup_id) group: vec3<u32>) {
    let request = group.x;
    let base = request * params.max_nodes;
    let count = node_count(request);
    let rule = requests[request].rule;
    if nodes[base].over == 1u {
        return;
    }
    var flags = 0u;
    var last = nodes[base].last;
    var over = params.width == 0u || count == 0u;
    if walks_down(request) {
        let end = nodes[base].end;
        // Children come after their parents, so the walk ends within `count` steps.
        for (var i = 0u; i < count && last < end; i++) {
            let found = accepted_child(request, last, count);
            flags |= found.flags;
            if found.child == NONE {
                over = true;
                break;
            }
            last = found.child;
        }
    } else if over && (rule == RULE_TYPICAL || rule == RULE_THRESHOLD) {
        last = longest_path(request, count);
    } else if over {
        var found = Found(0u, 0u);
        if rule == RULE_BLOCK {
            found = longest_block(request, count);
        } else {
            found = first_kept(request, count);
        }
        flags |= found.flags;
        last = found.child;
    }
    outcome[request * params.outcome_words + 1u] |= flags;
    nodes[base].last = last;
    if over {
        nodes[base].over = 1u;
        finish(request, last, count);
    } else if walks_down(request) || params.width == params.max_nodes {
        nodes[base].end = list_wave(request, last, count);
    }
}
