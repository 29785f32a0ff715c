// Statistics of each block of a row: see verify/stat.wgsl. One workgroup a block of a row of the bound part;
// verify/merge.wgsl joins them. Twin: reference::verify::processing.

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = params.first_row + group.y;
    let request = row / params.max_nodes;
    let node = row % params.max_nodes;
    if !row_exists(request, node) {
        return;
    }
    let source = row_source(request, node);
    let settings = row_settings(request);
    let begin = group.x * BLOCK;
    let end = min(begin + BLOCK, params.vocabulary);
    var own = NO_STAT;
    for (var y = begin + lane; y < end; y += WORKGROUP_X) {
        own = with_token(own, row_z(source, settings, y), y);
    }
    slots[lane] = own;
    join_slots(lane);
    if lane == 0u {
        let all = slots[0];
        let at = stat_at(group.y, ROW_KIND, group.x);
        scratch[at] = bitcast<u32>(all.top);
        scratch[at + 1u] = all.token;
        scratch[at + 2u] = bitcast<u32>(all.sum);
        scratch[at + 3u] = bitcast<u32>(all.slope);
    }
}
