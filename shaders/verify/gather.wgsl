// The candidates for the cut-off of a row: keys and tokens, in no order. One workgroup some blocks of a row of
// the wave.

// The bins whose tokens are candidates, and where these are listed.
struct Search {
    at: u32,
    list: u32,
    first: u32,
    last: u32,
    top: f32,
    scale: f32,
}

fn put(search: Search, z: f32, y: u32) {
    let bin = bin_of(z, search.top, search.scale);
    if bin >= search.first && bin <= search.last && z > LOWEST {
        let place = atomicAdd(&scratch[search.at + SEARCH_COUNT], 1u);
        if place < params.candidates {
            set_scratch(search.list + 2u * place, key_of(z));
            set_scratch(search.list + 2u * place + 1u, y);
        }
    }
}

fn gather(request: u32, node: u32, span: u32, lane: u32) {
    let row = request * params.max_nodes + node;
    let place = row - params.first_row;
    let settings = row_settings(request);
    if !row_exists(request, node) || !has_cut(settings) {
        return;
    }
    let at = search_at(place);
    if scratch_word(at + SEARCH_STATE) != STATE_PICKED {
        return;
    }
    let whole = row_stat(row);
    let bin = scratch_word(at + SEARCH_BIN);
    let search = Search(
        at, list_at(place), select(bin, 0u, by_count(settings)), bin, whole.max, bin_scale(settings, whole));
    let source = row_source(request, node);
    let begin = span * SPAN * BLOCK;
    let end = min(begin + SPAN * BLOCK, params.vocabulary);
    for (var y = begin + 4u * lane; y + 4u <= end; y += 4u * WORKGROUP_X) {
        let z = row_z_four(source, settings, y);
        put(search, z.x, y);
        put(search, z.y, y + 1u);
        put(search, z.z, y + 2u);
        put(search, z.w, y + 3u);
    }
    // What is left of the last four.
    for (var y = end / 4u * 4u + lane; y < end; y += WORKGROUP_X) {
        put(search, row_z(source, settings, y), y);
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
            gather(group.z, node, group.x, lane);
        }
    }
}
