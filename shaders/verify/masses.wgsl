// What is left of a node's distribution once children are rejected, as sums over the vocabulary.

// max(alpha p - s q, 0) and q of four tokens, of which the first is a multiple of four, as sums; nothing for those
// that were removed.
fn masses_of(
    p: vec4<f32>, q: vec4<f32>, alpha: f32, s: f32, replaces: bool, place: u32,
) -> vec2<f32> {
    let left = max(fma(vec4(alpha), p, -s * q), vec4(0.0));
    let stays = select(vec4(1.0), vec4(0.0), are_removed(place) & vec4(!replaces));
    return vec2(dot(left, stays), dot(q, stays));
}

// An invocation's share of their sums over the tokens of a block but those that children before `limit` took, unless these
// are replaced. Four tokens a turn: lavapipe ends the loops of an invocation after 65,535 turns in all, see `MOST_TURNS`
// in src/verify/windows.rs.
fn block_masses(
    request: u32, node: u32, pair: Pair, alpha: f32, s: f32, limit: u32, replaces: bool, block: u32, lane: u32,
) -> vec2<f32> {
    let begin = block * BLOCK;
    if !replaces {
        mark_removed(request, node, limit, begin, lane);
    }
    let end = min(begin + BLOCK, params.vocabulary);
    var own = vec2(0.0);
    for (var y = begin + 4u * lane; y + 4u <= end; y += 4u * WORKGROUP_X) {
        own += masses_of(target_p_four(pair, y), draft_q_four(pair, y), alpha, s, replaces, y - begin);
    }
    // What is left of the last four.
    for (var y = end / 4u * 4u + lane; y < end; y += WORKGROUP_X) {
        let q = draft_q(pair, y);
        let stays = select(1.0, 0.0, !replaces & is_removed(y - begin));
        own += stays * vec2(max(fma(alpha, target_p(pair, y), -s * q), 0.0), q);
    }
    return own;
}

// The sums over the whole row.
fn masses(
    request: u32, node: u32, pair: Pair, alpha: f32, s: f32, limit: u32, replaces: bool, lane: u32,
) -> vec2<f32> {
    var own = vec2(0.0);
    for (var block = 0u; block < params.blocks; block++) {
        own += block_masses(request, node, pair, alpha, s, limit, replaces, block, lane);
    }
    return vec2(sum_all(own.x, lane), sum_all(own.y, lane));
}
