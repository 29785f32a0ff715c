// Statistics of each block of a row, see verify/stat.wgsl, and for its cut-off the maximum of each group of tokens, see
// verify/groups.wgsl. One workgroup some blocks of a row of the
// wave; verify/merge.wgsl joins them. Twin: reference::verify::processing.

fn sum_row(request: u32, node: u32, span: u32, lane: u32) {
    if !row_exists(request, node) {
        return;
    }
    let place = request * params.max_nodes + node - params.first_row;
    let source = row_source(request, node);
    let settings = row_settings(request);
    let last = min(span * SPAN + SPAN, params.blocks);
    // Loops without turns: a CPU skips them, but goes through what an `if` leaves out.
    let groups = u32(has_cut(settings));
    for (var block = span * SPAN; block < last; block++) {
        var begin = block * BLOCK;
        let end = min(begin + BLOCK, params.vocabulary);
        var own = NO_STAT;
        for (; begin + TURN + groups * BLOCK <= end; begin += TURN) {
            let y = begin + 4u * lane;
            let a = row_z_four(source, settings, y);
            own = with_eight(own, a, row_z_four(source, settings, y + 4u * WORKGROUP_X), y);
        }
        for (; begin + GROUP_STEP <= groups * end; begin += GROUP_STEP) {
            var top = LOWEST;
            for (var turn = 0u; turn < GROUP_TURNS; turn++) {
                let y = begin + turn * TURN + 4u * lane;
                let a = row_z_four(source, settings, y);
                let b = row_z_four(source, settings, y + 4u * WORKGROUP_X);
                own = with_eight(own, a, b, y);
                top = max(top, top_of(a, b));
            }
            set_scratch(group_at(place, block, (begin % BLOCK) / GROUP_STEP * WORKGROUP_X + lane), bitcast<u32>(top));
        }
        // Where the row ends.
        while begin < end {
            let group = (begin % BLOCK) / GROUP_STEP;
            var top = LOWEST;
            for (var turn = 0u; turn < GROUP_TURNS && begin < end; turn++) {
                let y = begin + 4u * lane;
                let a = row_z_four_before(source, settings, y, end);
                let b = row_z_four_before(source, settings, y + 4u * WORKGROUP_X, end);
                own = with_eight(own, a, b, y);
                top = max(top, top_of(a, b));
                begin += TURN;
            }
            for (var i = groups; i > 0u; i--) {
                set_scratch(group_at(place, block, group * WORKGROUP_X + lane), bitcast<u32>(top));
            }
        }
        slots[lane] = own;
        join_slots(WORKGROUP_X, lane);
        if lane == 0u {
            let all = slots[0];
            let at = stat_at(place, ROW_KIND, block);
            set_scratch(at, bitcast<u32>(all.top));
            set_scratch(at + 1u, all.token);
            set_scratch(at + 2u, bitcast<u32>(all.sum));
        }
    }
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    for (var place = group.y; place < rows_of_wave(group.z); place += groups.y) {
        let node = node_of_wave(group.z, place);
        if is_bound(group.z, node) {
            sum_row(group.z, node, group.x, lane);
        }
    }
}
