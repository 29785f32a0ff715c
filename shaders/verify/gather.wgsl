// The candidates for the cut-off of a row: keys and tokens, in no order. One workgroup some blocks of a row of
// the wave.

var<workgroup> listed: atomic<u32>; // groups that are looked into
var<workgroup> likely: array<u32, SPAN_GROUPS>;

const SPAN_GROUPS: u32 = SPAN * BLOCK_GROUPS;

// The bin whose tokens are candidates, and where these are listed.
struct Search {
    at: u32,
    list: u32,
    bin: u32,
    top: f32,
    scale: f32,
}

fn put(search: Search, z: f32, y: u32) {
    if bin_of(z, search.top, search.scale) == search.bin && z > LOWEST {
        let place = atomicAdd(&scratch[search.at + SEARCH_COUNT], 1u);
        if place < params.candidates {
            set_scratch(search.list + 2u * place, key_of(z));
            set_scratch(search.list + 2u * place + 1u, y);
        }
    }
}

// Four tokens of a group, in order; what is left of the last four of a row comes by itself.
fn put_four(search: Search, source: Source, settings: Settings, y: u32) {
    if y + 4u <= params.vocabulary {
        let z = row_z_four(source, settings, y);
        for (var i = 0u; i < 4u; i++) {
            put(search, z[i], y + i);
        }
    }
}

fn gather(request: u32, node: u32, span: u32, lane: u32) {
    let row = request * params.max_nodes + node;
    let place = row - params.first_row;
    let settings = row_settings(request);
    if !row_exists(request, node) || !cuts_by_mass(settings) {
        return;
    }
    let at = search_at(place);
    if search_state(place, lane) != STATE_PICKED {
        return;
    }
    let whole = row_stat(row);
    let bin = scratch_word(at + SEARCH_BIN);
    let search = Search(at, list_at(place), bin, whole.max, bin_scale(settings, whole));
    let source = row_source(request, node);
    if lane == 0u {
        atomicStore(&listed, 0u);
    }
    workgroupBarrier(); // orders the zero before what is counted
    let groups = min((span + 1u) * SPAN_GROUPS, row_groups());
    for (var group = span * SPAN_GROUPS + lane; group < groups; group += WORKGROUP_X) {
        let top = bitcast<f32>(scratch_word(group_at(place, 0u, group)));
        if top > LOWEST && bin_of(top, whole.max, search.scale) <= bin {
            likely[atomicAdd(&listed, 1u)] = group;
        }
    }
    workgroupBarrier(); // orders the list before its groups are looked into
    for (var i = lane; i < atomicLoad(&listed); i += WORKGROUP_X) {
        let first = group_start(likely[i]);
        for (var four = 0u; four < 2u * GROUP_TURNS; four++) {
            put_four(search, source, settings, first + four * 4u * GROUP_LANES);
        }
    }
    // What is left of the last four.
    let over = select(params.vocabulary, params.vocabulary / 4u * 4u, (span + 1u) * SPAN >= params.blocks);
    for (var y = over + lane; y < params.vocabulary; y += WORKGROUP_X) {
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
        workgroupBarrier(); // orders what is read of this row before the next
    }
}
