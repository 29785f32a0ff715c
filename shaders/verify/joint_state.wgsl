// The rules that decide on several tokens together: block and traversal verification. How likely a node is kept depends
// on chance only through which nodes were cut off before it is tested, and those are always all its descendants; so
// every bound is known before the first random number. The children whose parents are in the bound part are gone through
// in their order: parents and earlier siblings come before. Twins: reference::verify block, traversal.

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
fn set_block_bound(at: u32, bound: f32) {
    let kept = nodes[at].kept;
    nodes[at].bound = bound;
    nodes[at].scale = select(bound + 1.0 - kept, -1.0, kept < 0.0);
}

// Weng et al. 2025, algorithm 2, as three numbers: what a node still owes is max(alpha p - s q, 0). These once another
// child, drawn by chance, is removed, before they are divided by the sum.
struct Removal {
    alpha: f32,
    s: f32,
}

fn removal_of(request: u32, node: u32) -> Removal {
    let state = nodes[request * params.max_nodes + node];
    let kept = state.bound; // once the children before are removed
    return Removal(kept * state.alpha, fma(kept, state.s, select(0.0, 1.0 / state.rest, state.rest > 0.0)));
}

// Sums of a block for a node lie where verify/rest.wgsl, after the walk, writes its own.
fn block_sums_at(request: u32, node: u32, block: u32) -> u32 {
    let row = request * params.max_nodes + node - params.first_row;
    return STAT_WORDS * (row * params.kinds * params.blocks + block) + 5u;
}

fn set_block_sums(request: u32, node: u32, block: u32, sums: vec2<f32>) {
    let at = block_sums_at(request, node, block);
    set_scratch(at, bitcast<u32>(sums.x));
    set_scratch(at + 1u, bitcast<u32>(sums.y));
}

// Their sum over the row, in order; nothing where the children were not drawn by chance.
fn row_sums(request: u32, node: u32) -> vec2<f32> {
    let blocks = select(0u, params.blocks, has_draft(request, node));
    var sums = vec2(0.0);
    for (var block = 0u; block < blocks; block++) {
        let at = block_sums_at(request, node, block);
        sums += vec2(bitcast<f32>(scratch_word(at)), bitcast<f32>(scratch_word(at + 1u)));
    }
    return sums;
}

// The first child from `first` on whose parent is in the bound part; where there is none, the number of nodes or more.
fn next_child(request: u32, first: u32) -> u32 {
    let count = node_count(request);
    var child = max(first, 1u);
    while child < count {
        let node = parent_of(request, child);
        if node < child && is_bound(request, node) {
            break;
        }
        child++;
    }
    return child;
}
