// The end of a dynamic tree: the best nodes of all, the root among them. A node is never better than its
// parent, which comes before it, so the parents of all chosen nodes are chosen. One workgroup a request.
// Twin: reference::tree::dynamic.

@group(0) @binding(3) var<storage, read_write> lengths: array<vec4<u32>>; // [request]: (rows, past, -, -)

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let request = group.x;
    let base = request * params.tree_words;
    let keys = key_field(request);
    let end = params.entries;
    let bound = bound_of(keys, 0u, end, params.max_nodes, lane);
    var before = counts_before(keys, 0u, end, bound, lane);
    for (var entry = share(0u, end, lane); entry < share(0u, end, lane + 1u); entry++) {
        let key = pool[keys + entry];
        let is_tie = key == bound.key && key != NO_KEY;
        if key > bound.key || (is_tie && before.y < bound.ties) {
            pool[node_field(request) + entry] = taken(before, bound);
        } else {
            pool[node_field(request) + entry] = NONE;
        }
        before += vec2(u32(key > bound.key), u32(is_tie));
    }
    storageBarrier();   // orders every entry's node before the parents are looked up
    workgroupBarrier(); // as above
    var all = vec2(0u);
    for (var i = 0u; i < WORKGROUP_X; i++) {
        all += lane_counts[i];
    }
    let count = taken(all, bound);
    for (var entry = lane; entry < end; entry += WORKGROUP_X) {
        let node = pool[node_field(request) + entry];
        if node != NONE {
            tree[base + node] = pool[token_field(request) + entry];
            parents[node] = 0u;
            if node != 0u {
                parents[node] = pool[node_field(request) + pool[parent_field(request) + entry]];
            }
        }
    }
    link(base, params.tree_stride, count, lane);
    if lane == 0u {
        lengths[request].x = count;
    }
}
