// The two distributions of a node.

// The target's row after a node and the one from which its children were drawn.
struct Pair {
    source: Source,
    settings: Settings,
    row: Row,
    draft: Source,
    drafting: Settings,
    drafted: Row,
}

fn pair_of(request: u32, node: u32) -> Pair {
    let at = request * params.max_nodes + node;
    return Pair(
        target_source(request, node), requests[request].sampling, nodes[at].after,
        draft_source(request, node), requests[request].drafting, nodes[at].drafted);
}

fn target_p(pair: Pair, y: u32) -> f32 {
    return probability(pair.row, target_z(pair.source, pair.settings, y), y);
}

fn draft_q(pair: Pair, y: u32) -> f32 {
    return probability(pair.drafted, draft_z(pair.draft, pair.drafting, y), y);
}

// Those of four tokens in order, of which the first is a multiple of four.
fn target_p_four(pair: Pair, y: u32) -> vec4<f32> {
    return probability_four(pair.row, target_z_four(pair.source, pair.settings, y), y);
}

fn draft_q_four(pair: Pair, y: u32) -> vec4<f32> {
    return probability_four(pair.drafted, draft_z_four(pair.draft, pair.drafting, y), y);
}
