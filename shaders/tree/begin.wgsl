// The root alone, before anything is drafted: the token in the blob's first word of the finished tree.
// One workgroup a request.

@group(0) @binding(6) var<storage, read> target_tree: array<u32>; // [request]: its first word is the root

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let request = group.x;
    let base = request * params.tree_words;
    let root = target_tree[request * params.begin];
    for (var i = lane; i < params.entries; i += WORKGROUP_X) {
        // The root's key is above all others.
        pool[key_field(request) + i] = select(NO_KEY, NONE, i == 0u);
    }
    if lane == 0u {
        pool[token_field(request)] = root;
        pool[parent_field(request)] = NONE;
        pool[node_field(request)] = 0u;
        tree[base] = root;
        parents[0] = 0u;
        sequences[request] = vec4(1u, lengths[request].y, 0u, 0u);
        frontier[frontier_word(0u, groups.x, request, 0u)] = root;
        frontier[frontier_word(1u, groups.x, request, 0u)] = 0u;
        frontier[frontier_word(2u, groups.x, request, 0u)] = 0u;
        frontier[frontier_word(3u, groups.x, request, 0u)] = 0u;
    }
    storageBarrier(); // orders the root's token before the fields
    link(base, params.tree_stride, 1u, lane);
}
