// Commit: keeps the keys and values of the accepted nodes of each sequence's draft and drops the rest, in
// all layers that share a buffer.
//
// Node n of a draft wrote the slot of token past + n. The accepted path is ascending and path[i] >= i, so
// moving past + path[i] to past + i for i = 0, 1, ... never overwrites a slot that is still to be read.
// Each invocation owns one unit of a row, in one head and layer of one sequence, and moves it along the
// whole path by itself, in order: no invocation reads what another writes, hence no race. Sequences
// own their slots alone from `past` on (a page that is shared is copied before it is written).

struct CommitParams {
    key_lanes: u32,      // [layer, kv_head, unit] of the keys in this buffer
    value_lanes: u32,
    kv_heads: u32,
    key_row: u32,        // units of a slot of one head
    value_row: u32,
    key_layer: u32,      // units from one layer to the next
    value_layer: u32,
    outcome_stride: u32, // words from one sequence's outcome to the next
    max_nodes: u32,      // most nodes of a path
    slots: u32,          // of one head
    capacity: u32,       // tokens of a sequence
    page_shift: u32,     // log2 of a page's tokens
    table_stride: u32,   // entries of a sequence in the page table
}

@group(0) @binding(0) var<uniform> params: CommitParams;
@group(0) @binding(2) var<storage, read> outcome: array<u32>; // [sequence]: accepted, flags, path
@group(0) @binding(3) var<storage, read_write> keys: array<Unit>; // [layer, kv_head, slot, unit]
@group(0) @binding(4) var<storage, read_write> values: array<Unit>;

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let lane = id.y * groups.x * WORKGROUP_X + id.x;
    let sequence = id.z;
    if lane >= params.key_lanes + params.value_lanes || sequences[sequence].rows == 0u {
        return;
    }
    let is_value = lane >= params.key_lanes;
    let own = select(lane, lane - params.key_lanes, is_value);
    let row = select(params.key_row, params.value_row, is_value);
    let layer_units = select(params.key_layer, params.value_layer, is_value);
    let layer = own / (params.kv_heads * row);
    let head = own / row % params.kv_heads;
    let first = layer * layer_units + head * params.slots * row + own % row;

    let past = sequences[sequence].past;
    let path = sequence * params.outcome_stride + 2u;
    let accepted = min(outcome[path - 2u], params.max_nodes - 1u);
    for (var i = 1u; i <= accepted; i++) {
        let node = outcome[path + i];
        if node <= i || moves_whole(path, accepted, past, i) {
            continue;
        }
        let source = slot_of(sequence, past + node);
        let place = slot_of(sequence, past + i);
        if source == NO_SLOT || place == NO_SLOT {
            continue;
        }
        if is_value {
            values[first + place * row] = values[first + source * row];
        } else {
            keys[first + place * row] = keys[first + source * row];
        }
    }
}
