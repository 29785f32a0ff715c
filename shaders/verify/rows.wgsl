// Statistics of each block of a row: see verify/stat.wgsl. One workgroup a block of a row of the bound part;
// verify/merge.wgsl joins them. Twin: reference::verify::processing.

// The logit of a token; LOWEST past the end.
fn z_before(source: Source, settings: Settings, y: u32, end: u32) -> f32 {
    return select(LOWEST, row_z(source, settings, min(y, end - 1u)), y < end);
}

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
    for (var y = begin + lane; y < end; y += 4u * WORKGROUP_X) {
        let z = vec4(
            row_z(source, settings, y), z_before(source, settings, y + WORKGROUP_X, end),
            z_before(source, settings, y + 2u * WORKGROUP_X, end),
            z_before(source, settings, y + 3u * WORKGROUP_X, end));
        own = with_four(own, z, y, WORKGROUP_X);
    }
    slots[lane] = own;
    join_slots(lane);
    if lane == 0u {
        let all = slots[0];
        let at = stat_at(group.y, ROW_KIND, group.x);
        set_scratch(at, bitcast<u32>(all.top));
        set_scratch(at + 1u, all.token);
        set_scratch(at + 2u, bitcast<u32>(all.sum));
    }
}
