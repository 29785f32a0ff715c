// The marks of each node, one bit a token: those that occurred (committed, or on the path to the node), and
// those that the grammar allows. One workgroup a row of the wave.

@group(0) @binding(3) var<storage, read> masks: array<u32>; // [request][occurred, then node][mask word]
@group(0) @binding(4) var<storage, read_write> scratch: array<atomic<u32>>; // as in verify/process.wgsl

fn mark(request: u32, row: u32, node: u32, lane: u32) {
    let count = node_count(request);
    let words = params.mask_words;
    let committed = request * params.mask_rows * words;
    let grammar = committed + (1u + node) * words;
    let marks = params.marks_at + 2u * (row - params.first_row) * words;
    let has_grammar = params.mask_rows > 1u;
    for (var i = lane; i < words; i += WORKGROUP_X) {
        atomicStore(&scratch[marks + i], masks[committed + i]);
        atomicStore(&scratch[marks + words + i], masks[select(committed, grammar, has_grammar) + i]);
    }
    storageBarrier();   // orders the committed tokens before those of the path
    workgroupBarrier();
    // In preorder a node's descendants come right after it.
    let place = tree_field(request, 5u, node);
    for (var i = lane; i < count; i += WORKGROUP_X) {
        let token = token_of(request, i);
        let above = tree_field(request, 5u, i) <= place && place < tree_field(request, 6u, i);
        if above && token < params.vocabulary {
            atomicOr(&scratch[marks + token / 32u], 1u << (token % 32u));
        }
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
        let row = group.z * params.max_nodes + node;
        if is_in_part(row) {
            mark(group.z, row, node, lane);
        }
    }
}
