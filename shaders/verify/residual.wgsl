// What is left of the target's distribution where a walk ended.

struct Left {
    pair: Pair,
    alpha: f32,
    s: f32,
    draws: bool,  // the children were drawn by chance
    weighs: bool, // and their tokens keep something: traversal verification of draws without replacement
}

fn rejects(request: u32) -> bool {
    let rule = requests[request].rule;
    return rule == RULE_REJECTION || rule == RULE_CHAIN || rule == RULE_BLOCK || rule == RULE_TRAVERSAL;
}

// Whether the tokens of the children are to be marked in `removed`.
fn removes(request: u32, node: u32) -> bool {
    let rule = requests[request].rule;
    let replaces = requests[request].draw == DRAW_IID || (rule == RULE_BLOCK && has_draft(request, node));
    return rejects(request) && !replaces;
}

fn left_of(request: u32, node: u32) -> Left {
    let at = request * params.max_nodes + node;
    let draws = rejects(request) && has_draft(request, node);
    return Left(
        pair_of(request, node), nodes[at].alpha, nodes[at].s, draws,
        draws && requests[request].rule == RULE_TRAVERSAL);
}

fn removed_weight(request: u32, node: u32, y: u32) -> f32 {
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

// What is left of the probabilities `p` of four tokens from `y` on, and these, as sums. `place` counts from where tokens are
// marked; `q` is what they were drawn from.
fn residual_sums(left: Left, request: u32, node: u32, place: u32, y: u32, p: vec4<f32>, q: vec4<f32>) -> vec2<f32> {
    var rest = select(p, max(fma(vec4(left.alpha), p, -left.s * q), vec4(0.0)), left.draws);
    var weight = 0.0;
    if removes(request, node) {
        let gone = are_removed(place);
        rest = select(rest, vec4(0.0), gone);
        // A loop, which a CPU skips where it has no turns.
        for (var i = select(4u, 0u, left.weighs && any(gone)); i < 4u; i++) {
            if is_removed(place + i) {
                weight += removed_weight(request, node, y + i);
            }
        }
    }
    return vec2(dot(rest, vec4(1.0)) + weight, dot(p, vec4(1.0)));
}

// What is left of the probability of `y`, and the probability. `y` is `place` tokens after those marked begin.
fn residual(left: Left, request: u32, node: u32, place: u32, y: u32) -> vec2<f32> {
    let p = target_p(left.pair, y);
    if removes(request, node) && is_removed(place) {
        if left.weighs {
            return vec2(removed_weight(request, node, y), p);
        }
        return vec2(0.0, p);
    }
    if !left.draws {
        return vec2(p, p);
    }
    return vec2(max(fma(left.alpha, p, -left.s * draft_q(left.pair, y)), 0.0), p);
}

// Sums of residual() from `first`, a multiple of four, up to `end`: of every `step` tokens the first four. Tokens are
// marked from `begin` on. Without what is left of the last four.
fn residual_run(left: Left, request: u32, node: u32, begin: u32, first: u32, step: u32, end: u32) -> vec2<f32> {
    var sums = vec2(0.0);
    for (var y = first; y + 4u <= end; y += step) {
        var q = vec4(0.0);
        for (var drawn = u32(left.draws); drawn > 0u; drawn--) {
            q = draft_q_four(left.pair, y);
        }
        sums += residual_sums(left, request, node, y - begin, y, target_p_four(left.pair, y), q);
    }
    return sums;
}
