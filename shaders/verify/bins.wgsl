// Sums of the bins of each block of a row: the weight of its tokens. Each invocation has bins
// of its own, so that the order of a sum is always the same. One workgroup some blocks of a row of the wave.

var<workgroup> own_bins: array<f32, OWN_BINS>; // [bin][invocation]

const OWN_BINS: u32 = BINS * WORKGROUP_X;

// Adds a token to its bin.
fn put(z: f32, top: f32, scale: f32, weight: f32, lane: u32) {
    own_bins[bin_of(z, top, scale) * WORKGROUP_X + lane] += select(weight, 0.0, z <= LOWEST);
}

fn fill_bins(request: u32, node: u32, span: u32, lane: u32) {
    let row = request * params.max_nodes + node;
    let place = row - params.first_row;
    let settings = row_settings(request);
    if !row_exists(request, node) || !cuts_by_mass(settings) {
        return;
    }
    if search_state(place, lane) == STATE_DONE {
        return;
    }
    let whole = row_stat(row);
    let scale = bin_scale(settings, whole);
    let source = row_source(request, node);
    let last = min(span * SPAN + SPAN, params.blocks);
    for (var block = span * SPAN; block < last; block++) {
        for (var bin = 0u; bin < BINS; bin++) {
            own_bins[bin * WORKGROUP_X + lane] = 0.0;
        }
        let end = min(block * BLOCK + BLOCK, params.vocabulary);
        for (var y = block * BLOCK + 4u * lane; y + 4u <= end; y += 4u * WORKGROUP_X) {
            let z = row_z_four(source, settings, y);
            let weights = exp(max(z - vec4(whole.max), vec4(-150.0)));
            put(z.x, whole.max, scale, weights.x, lane);
            put(z.y, whole.max, scale, weights.y, lane);
            put(z.z, whole.max, scale, weights.z, lane);
            put(z.w, whole.max, scale, weights.w, lane);
        }
        // What is left of the last four.
        for (var y = end / 4u * 4u + lane; y < end; y += WORKGROUP_X) {
            let z = row_z(source, settings, y);
            put(z, whole.max, scale, exponential(z, whole.max), lane);
        }
        workgroupBarrier(); // orders the invocations' bins before their sums
        for (var bin = lane; bin < BINS; bin += WORKGROUP_X) {
            var sum = 0.0;
            for (var i = 0u; i < WORKGROUP_X; i++) {
                sum += own_bins[bin * WORKGROUP_X + i];
            }
            set_scratch(bins_at(place, block) + bin, bitcast<u32>(sum));
        }
        workgroupBarrier(); // orders the sums before the next block's bins
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
            fill_bins(group.z, node, group.x, lane);
        }
    }
}
