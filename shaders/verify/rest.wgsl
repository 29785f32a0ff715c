// After the walk, sums over each block of the rows on its path: of the logits as they are, for
// log-probabilities, and in the last row what is left to sample from. One workgroup some blocks of a row on the
// path, as far as it is bound.

fn raw_stat(source: Source, first: u32, end: u32, lane: u32) -> Stat {
    var begin = first;
    var own = NO_STAT;
    for (; begin + TURN <= end; begin += TURN) {
        let y = begin + 4u * lane;
        own = with_eight(own, raw_four(source, y), raw_four(source, y + 4u * WORKGROUP_X), y);
    }
    for (var y = begin + 4u * lane; y + 4u <= end; y += 4u * WORKGROUP_X) {
        own = with_eight(own, raw_four(source, y), vec4(LOWEST), y);
    }
    // What is left of the last four.
    for (var y = end / 4u * 4u + lane; y < end; y += WORKGROUP_X) {
        own = with_eight(own, vec4(raw_logit(source, y), LOWEST, LOWEST, LOWEST), vec4(LOWEST), y);
    }
    return own;
}

// Whether a child's token, which can't be drawn again, is among those of a block.
fn has_removed(request: u32, node: u32, begin: u32) -> bool {
    let count = node_count(request);
    var before = node;
    var child = first_child(request, node);
    while is_child(child, before, count) {
        if token_of(request, child) - begin < BLOCK { // wraps below it
            return true;
        }
        before = child;
        child = next_sibling(request, child);
    }
    return false;
}

fn sum_rest(request: u32, node: u32, span: u32, lane: u32) {
    let row = request * params.max_nodes + node;
    let settings = requests[request].sampling;
    let samples = node == end_of_path(request) && requests[request].rule != RULE_GREEDY;
    let last = min(span * SPAN + SPAN, params.blocks);
    for (var block = span * SPAN; block < last; block++) {
        let at = stat_at(row - params.first_row, 0u, block);
        let begin = block * BLOCK;
        let end = min(begin + BLOCK, params.vocabulary);
        if changes_logits(settings) {
            slots[lane] = raw_stat(target_source(request, node), begin, end, lane);
            join_slots(WORKGROUP_X, lane);
            if lane == 0u {
                set_scratch(at + 3u, bitcast<u32>(slots[0].top));
                set_scratch(at + 4u, bitcast<u32>(slots[0].sum));
            }
        } else if lane == 0u {
            // What verify/rows.wgsl found.
            set_scratch(at + 3u, scratch_word(at));
            set_scratch(at + 4u, scratch_word(at + 2u));
        }
        if !samples {
            continue;
        }
        let removing = removes(request, node) && has_removed(request, node, begin);
        if !removing && !has_cut(settings) && !(rejects(request) && has_draft(request, node)) {
            // All that the block has, as verify/rows.wgsl summed it.
            if lane == 0u {
                let top = bitcast<f32>(scratch_word(at));
                let whole = nodes[row].after;
                let sum = share(whole.max, top) * bitcast<f32>(scratch_word(at + 2u)) / whole.sum;
                let left = select(0.0, sum, whole.sum > 0.0);
                set_scratch(at + 5u, bitcast<u32>(left));
                set_scratch(at + 6u, bitcast<u32>(left));
            }
            continue;
        }
        let left = left_of(request, node);
        if removes(request, node) {
            mark_removed(request, node, node_count(request), begin, lane);
        }
        var own = residual_run(left, request, node, begin, begin + 4u * lane, 4u * WORKGROUP_X, end);
        // What is left of the last four.
        for (var y = end / 4u * 4u + lane; y < end; y += WORKGROUP_X) {
            own += residual(left, request, node, y - begin, y);
        }
        let sums = vec2(sum_all(own.x, lane), sum_all(own.y, lane));
        if lane == 0u {
            set_scratch(at + 5u, bitcast<u32>(sums.x));
            set_scratch(at + 6u, bitcast<u32>(sums.y));
        }
    }
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    for (var place = group.y; place < rows_of_path(group.z); place += groups.y) {
        let node = node_of_wave(group.z, place);
        if is_bound(group.z, node) {
            sum_rest(group.z, node, group.x, lane);
        }
        workgroupBarrier(); // orders what is read of this row before the next
    }
}
