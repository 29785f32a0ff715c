// One level of a dynamic tree: the candidates of the last level's nodes join the pool, and the best of them
// become the nodes that are drafted from next. One workgroup a request. Twin: reference::tree::dynamic.

struct Candidate {
    token: u32,
    log_probability: f32,
}

@group(0) @binding(6) var<storage, read> candidates: array<Candidate>; // [request, row, child]

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let request = group.x;
    let base = request * params.tree_words;
    let keys = key_field(request);
    let count = params.rows * params.children;
    for (var i = lane; i < count; i += WORKGROUP_X) {
        let entry = params.begin + i;
        let parent = frontier[frontier_word(3u, groups.x, request, i / params.children)];
        let candidate = candidates[request * count + i];
        var key = NO_KEY;
        // A row without a node is padding; a candidate without a token is none.
        if parent != NONE && candidate.token != NONE {
            var score = candidate.log_probability;
            if parent != 0u {
                score += bitcast<f32>(bits_of(pool[keys + parent]));
            }
            key = key_of(bitcast<u32>(score));
        }
        pool[keys + entry] = key;
        pool[token_field(request) + entry] = candidate.token;
        pool[parent_field(request) + entry] = parent;
        pool[node_field(request) + entry] = NONE;
    }
    storageBarrier();   // orders the entries before the choice among them
    workgroupBarrier(); // and the reads of the frontier before it is written
    if params.next_rows == 0u {
        return; // the last level: nothing is drafted from it
    }
    let begin = params.begin;
    let end = params.begin + count;
    let bound = bound_of(keys, begin, end, params.next_rows, lane);
    var before = counts_before(keys, begin, end, bound, lane);
    for (var entry = share(begin, end, lane); entry < share(begin, end, lane + 1u); entry++) {
        let key = pool[keys + entry];
        let is_tie = key == bound.key && key != NO_KEY;
        if key > bound.key || (is_tie && before.y < bound.ties) {
            let row = taken(before, bound);
            let node = params.next_node + row;
            let parent_node = pool[node_field(request) + pool[parent_field(request) + entry]];
            pool[node_field(request) + entry] = node;
            tree[base + node] = pool[token_field(request) + entry];
            parents[node] = parent_node;
            frontier[frontier_word(0u, groups.x, request, row)] = pool[token_field(request) + entry];
            frontier[frontier_word(2u, groups.x, request, row)] = parent_node - params.first_node;
            frontier[frontier_word(3u, groups.x, request, row)] = entry;
        }
        before += vec2(u32(key > bound.key), u32(is_tie));
    }
    storageBarrier();   // orders the chosen nodes before what pads them
    workgroupBarrier(); // as above
    var all = vec2(0u);
    for (var i = 0u; i < WORKGROUP_X; i++) {
        all += lane_counts[i];
    }
    let found = taken(all, bound);
    // Where rows had fewer numbers than are drafted from, padding keeps the nodes' numbers: further children
    // of the last node's parent, whose rows are computed and not looked at.
    var pad_parent = params.first_node;
    if found > 0u {
        pad_parent = parents[params.next_node + found - 1u];
    }
    let root = pool[token_field(request)];
    for (var row = found + lane; row < params.next_rows; row += WORKGROUP_X) {
        tree[base + params.next_node + row] = root;
        parents[params.next_node + row] = pad_parent;
        frontier[frontier_word(0u, groups.x, request, row)] = root;
        frontier[frontier_word(2u, groups.x, request, row)] = pad_parent - params.first_node;
        frontier[frontier_word(3u, groups.x, request, row)] = NONE;
    }
    // Nodes of earlier levels keep their parents.
    for (var node = lane; node < params.next_node; node += WORKGROUP_X) {
        parents[node] = select(tree[base + params.tree_stride + node], 0u, node == 0u);
    }
    storageBarrier(); // orders the reads of the parents before they are written again
    let nodes = params.next_node + params.next_rows;
    link(base, params.tree_stride, nodes, lane);
    for (var row = lane; row < params.next_rows; row += WORKGROUP_X) {
        frontier[frontier_word(1u, groups.x, request, row)] = params.level - params.next_node;
    }
    if lane == 0u {
        sequences[request] = vec4(params.next_rows, lengths[request].y + params.next_node, 0u, 0u);
    }
}
