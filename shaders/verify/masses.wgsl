// What is left of a node's distribution once children are rejected, as sums over the vocabulary.

// max(alpha p - s q, 0) and q of one token; nothing for one that is past the end or was removed.
fn masses_of(pair: Pair, alpha: f32, s: f32, replaces: bool, begin: u32, end: u32, y: u32) -> vec2<f32> {
    if y >= end || (!replaces && is_removed(y - begin)) {
        return vec2(0.0);
    }
    let q = draft_q(pair, y);
    return vec2(max(fma(alpha, target_p(pair, y), -s * q), 0.0), q);
}

// Their sums over all tokens but those that children before `limit` took, unless these are replaced. Four
// tokens a turn: lavapipe ends the loops of an invocation after 65,535 turns in all, see `MOST_TURNS` in
// src/verify/windows.rs.
fn masses(
    request: u32, node: u32, pair: Pair, alpha: f32, s: f32, limit: u32, replaces: bool, lane: u32,
) -> vec2<f32> {
    var own = vec2(0.0);
    for (var begin = 0u; begin < params.vocabulary; begin += BLOCK) {
        if !replaces {
            mark_removed(request, node, limit, begin, lane);
        }
        let end = min(begin + BLOCK, params.vocabulary);
        for (var y = begin + lane; y < end; y += 4u * WORKGROUP_X) {
            own += masses_of(pair, alpha, s, replaces, begin, end, y);
            own += masses_of(pair, alpha, s, replaces, begin, end, y + WORKGROUP_X);
            own += masses_of(pair, alpha, s, replaces, begin, end, y + 2u * WORKGROUP_X);
            own += masses_of(pair, alpha, s, replaces, begin, end, y + 3u * WORKGROUP_X);
        }
    }
    return vec2(sum_all(own.x, lane), sum_all(own.y, lane));
}
