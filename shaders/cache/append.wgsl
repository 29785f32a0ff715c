// Rotary position embedding fused with the write of keys and values into a cache of floats. One
// workgroup a row of a sequence.
//
// Row r of a sequence sits at position past + depth[r] and goes to slot past + r: siblings of a draft
// tree share a position but not a slot.

@group(0) @binding(5) var<storage, read_write> key: array<StoredKey>; // [kv_head, slot, pair]
@group(0) @binding(6) var<storage, read_write> value: array<StoredValue>;

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let sequence = group.y;
    if group.x >= sequences[sequence].rows || !has_row(sequence, group.x) {
        return;
    }
    let row = row_of(sequence, group.x);
    let keys = row.x + params.key_start;
    let values = row.x + params.value_start;
    for (var i = lane; i < params.query_heads * params.rotated_pairs; i += WORKGROUP_X) {
        let head = row.x + i / params.rotated_pairs * params.head_dim;
        let at = elements_of(i % params.rotated_pairs);
        // No other invocation reads or writes these two.
        let rotated = rotated_pair(head, row.position, i % params.rotated_pairs);
        x[head + at.x] = rotated.x;
        x[head + at.y] = rotated.y;
    }
    if row.slot == NO_SLOT {
        return;
    }
    let key_pairs = params.head_dim / 2u;
    for (var i = lane; i < params.kv_heads * key_pairs; i += WORKGROUP_X) {
        let head = i / key_pairs;
        let pair = i % key_pairs;
        let origin = keys + head * params.head_dim;
        let a = rotated_element(origin, row.position, 2u * pair);
        let b = rotated_element(origin, row.position, 2u * pair + 1u);
        key[(head * params.slots + row.slot) * params.key_row + pair] = stored_key(vec2(a, b));
    }
    let value_pairs = params.value_dim / 2u;
    for (var i = lane; i < params.kv_heads * value_pairs; i += WORKGROUP_X) {
        let head = i / value_pairs;
        let pair = i % value_pairs;
        let origin = values + head * params.value_dim + 2u * pair;
        value[(head * params.slots + row.slot) * params.value_row + pair] =
            stored_value(vec2(x[origin], x[origin + 1u]));
    }
}
