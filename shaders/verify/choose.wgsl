// The cut-off of a row among the candidates that verify/gather.wgsl listed. One workgroup a row of the wave.

var<workgroup> search: vec2<u32>; // candidates, and whether they are all there

fn choose(request: u32, node: u32, lane: u32) {
    let row = request * params.max_nodes + node;
    let place = row - params.first_row;
    let settings = row_settings(request);
    let at = search_at(place);
    if !row_exists(request, node) || !cuts_by_mass(settings) {
        return;
    }
    let whole = row_stat(row);
    let before = bitcast<f32>(scratch_word(at + SEARCH_BEFORE));
    let wanted = bitcast<f32>(scratch_word(at + SEARCH_WANTED));
    if lane == 0u {
        let number = scratch_word(at + SEARCH_COUNT);
        let picked = scratch_word(at + SEARCH_STATE) == STATE_PICKED;
        let complete = picked && number <= params.candidates && (number > 0u || ends_at_bar(settings));
        search = vec2(select(0u, number, complete), select(0u, 1u, complete));
        begin_sums();
    }
    let found = workgroupUniformLoad(&search);
    if found.y == 0u {
        if lane == 0u && scratch_word(at + SEARCH_STATE) == STATE_PICKED {
            set_scratch(at + SEARCH_STATE, STATE_OPEN);
        }
        return;
    }
    let count = found.x;
    let list = list_at(place);
    for (var i = lane; i < count; i += WORKGROUP_X) {
        let key = scratch_word(list + 2u * i);
        let weight = integers(min(exponential(from_key(key), whole.max), 1.0));
        candidates[i] = Candidate(key, scratch_word(list + 2u * i + 1u), weight);
    }
    end_candidates(count, lane);
    decide(row, settings, count, before, wanted, lane);
    if lane == 0u {
        set_scratch(at + SEARCH_STATE, STATE_DONE);
    }
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    for (var place = group.x; place < rows_of_wave(group.z); place += groups.x) {
        let node = node_of_wave(group.z, place);
        if is_bound(group.z, node) {
            choose(group.z, node, lane);
        }
        workgroupBarrier(); // orders what is read of this row before the next
    }
}
