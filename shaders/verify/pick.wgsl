// The bin in which the cut-off of a row lies. One workgroup a row of the wave.

var<workgroup> bin_sums: array<f32, BINS>;

// From the sums of the bins. One invocation does it.
fn find_bin(request: u32, row: u32, place: u32, settings: Settings) {
    let whole = row_stat(row);
    let scale = bin_scale(settings, whole);
    var total = 0.0;
    for (var bin = 0u; bin < BINS; bin++) {
        total += bin_sums[bin];
    }
    let wanted = settings.top_p * total;
    // No bin after that of the least logit that min-p keeps.
    var end = BINS - 1u;
    if ends_at_bar(settings) {
        end = bin_of(bar_of(settings, whole.max), whole.max, scale);
    }
    var bin = 0u;
    var before = 0.0;
    while bin < end && before + bin_sums[bin] < wanted {
        before += bin_sums[bin];
        bin++;
    }
    // The last bin has no end.
    let open = bin == BINS - 1u || wants_entropy(request);
    let at = search_at(place);
    set_scratch(at + SEARCH_STATE, select(STATE_PICKED, STATE_OPEN, open));
    set_scratch(at + SEARCH_BIN, bin);
    set_scratch(at + SEARCH_BEFORE, bitcast<u32>(before));
    set_scratch(at + SEARCH_WANTED, bitcast<u32>(wanted));
    set_scratch(at + SEARCH_COUNT, 0u);
}

fn pick(request: u32, node: u32, lane: u32) {
    let row = request * params.max_nodes + node;
    let place = row - params.first_row;
    let settings = row_settings(request);
    if !row_exists(request, node) || !cuts_by_mass(settings) {
        return;
    }
    if search_state(place, lane) == STATE_DONE {
        return;
    }
    for (var bin = lane; bin < BINS; bin += WORKGROUP_X) {
        var sum = 0.0;
        for (var block = 0u; block < params.blocks; block++) {
            sum += bitcast<f32>(scratch_word(bins_at(place, block) + bin));
        }
        bin_sums[bin] = sum;
    }
    workgroupBarrier(); // orders the sums before the search
    if lane == 0u {
        find_bin(request, row, place, settings);
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
            pick(group.z, node, lane);
        }
        workgroupBarrier(); // orders the search before the next row's sums
    }
}
