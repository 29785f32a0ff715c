// After the walk, sums over each block of the rows on its path: of the logits as they are, for
// log-probabilities, and in the last row what is left to sample from. One workgroup a block of a row of the
// bound part. They take the place of the statistics of verify/rows.wgsl.

var<workgroup> last_node: u32;

// The logit of a token; LOWEST past the end.
fn raw_before(source: Source, y: u32, end: u32) -> f32 {
    return select(LOWEST, raw_logit(source, min(y, end - 1u)), y < end);
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = params.first_row + group.y;
    let request = row / params.max_nodes;
    let node = row % params.max_nodes;
    if node >= node_count(request) {
        return;
    }
    if lane == 0u {
        last_node = nodes[request * params.max_nodes].last;
    }
    let last = workgroupUniformLoad(&last_node);
    let place = tree_field(request, 5u, last);
    if tree_field(request, 5u, node) > place || place >= tree_field(request, 6u, node) {
        return; // not above the last node
    }
    let source = target_source(request, node);
    let begin = group.x * BLOCK;
    let end = min(begin + BLOCK, params.vocabulary);
    var own = NO_STAT;
    for (var y = begin + lane; y < end; y += 4u * WORKGROUP_X) {
        let z = vec4(
            raw_logit(source, y), raw_before(source, y + WORKGROUP_X, end),
            raw_before(source, y + 2u * WORKGROUP_X, end), raw_before(source, y + 3u * WORKGROUP_X, end));
        own = with_four(own, z, y, WORKGROUP_X);
    }
    slots[lane] = own;
    join_slots(lane);
    var sums = vec2(0.0);
    if node == last && requests[request].rule != RULE_GREEDY {
        let left = left_of(request, node);
        if removes(request, node) {
            mark_removed(request, node, node_count(request), begin, lane);
        }
        for (var y = begin + lane; y < end; y += WORKGROUP_X) {
            sums += residual(left, request, node, y - begin, y);
        }
        sums = vec2(sum_all(sums.x, lane), sum_all(sums.y, lane));
    }
    if lane == 0u {
        let at = stat_at(group.y, 0u, group.x);
        set_scratch(at, bitcast<u32>(slots[0].top));
        set_scratch(at + 1u, bitcast<u32>(slots[0].sum));
        set_scratch(at + 2u, bitcast<u32>(sums.x));
        set_scratch(at + 3u, bitcast<u32>(sums.y));
    }
}
