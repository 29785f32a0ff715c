// Sums of the bins of each block of a row: the number of its tokens, or their weight. Each invocation has bins
// of its own, so that the order of a sum is always the same. One workgroup a block of a row of the bound part.

var<workgroup> own_bins: array<f32, OWN_BINS>; // [bin][invocation]

const OWN_BINS: u32 = BINS * WORKGROUP_X;

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
    for (var bin = 0u; bin < BINS; bin++) {
        own_bins[bin * WORKGROUP_X + lane] = 0.0;
    }
    let whole = row_stat(row);
    let scale = bin_scale(settings, whole);
    let by_number = by_count(settings);
    let source = row_source(request, node);
    let begin = group.x * BLOCK;
    let end = min(begin + BLOCK, params.vocabulary);
    for (var y = begin + lane; y < end; y += WORKGROUP_X) {
        let z = row_z(source, settings, y);
        let weight = select(exponential(z, whole.max), select(1.0, 0.0, z <= LOWEST), by_number);
        own_bins[bin_of(z, whole.max, scale) * WORKGROUP_X + lane] += weight;
    }
    workgroupBarrier(); // orders the invocations' bins before their sums
    for (var bin = lane; bin < BINS; bin += WORKGROUP_X) {
        var sum = 0.0;
        for (var i = 0u; i < WORKGROUP_X; i++) {
            sum += own_bins[bin * WORKGROUP_X + i];
        }
        set_scratch(bins_at(group.y, group.x) + bin, bitcast<u32>(sum));
    }
}
