// The candidates for the cut-off of a row: keys and tokens, in no order. One workgroup a block of a row of the
// bound part.

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = params.first_row + group.y;
    let request = row / params.max_nodes;
    let node = row % params.max_nodes;
    let settings = row_settings(request);
    if !row_exists(request, node) || !has_cut(settings) {
        return;
    }
    let at = search_at(group.y);
    let last = scratch_word(at + SEARCH_BIN);
    let first = select(last, 0u, by_count(settings));
    let list = list_at(group.y);
    let whole = row_stat(row);
    let scale = bin_scale(settings, whole);
    let source = row_source(request, node);
    let begin = group.x * BLOCK;
    let picked = scratch_word(at + SEARCH_STATE) == STATE_PICKED;
    let end = select(begin, min(begin + BLOCK, params.vocabulary), picked);
    for (var y = begin + lane; y < end; y += WORKGROUP_X) {
        let z = row_z(source, settings, y);
        let bin = bin_of(z, whole.max, scale);
        if bin >= first && bin <= last && z > LOWEST {
            let place = atomicAdd(&scratch[at + SEARCH_COUNT], 1u);
            if place < params.candidates {
                set_scratch(list + 2u * place, key_of(z));
                set_scratch(list + 2u * place + 1u, y);
            }
        }
    }
}
