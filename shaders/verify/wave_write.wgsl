// The rows that are worked on next. A walk from the root needs only those on its way, so where each row costs
// much they are not all gone through at once: wave by wave, those of the nodes that the walk may come to next, in
// the order of nodes. Parents come before their children, so the walk goes on until it stands on a node that
// comes after them all.
//
// Of a request: [0] nodes of the wave, [1] once the walk is over nodes on its path, [2] the last of these, [3]
// unused; then the nodes.

@group(0) @binding(WAVES_BINDING) var<storage, read_write> waves: array<u32>; // [request]

fn wave_of(request: u32) -> u32 {
    return request * (params.max_nodes + WAVE_HEADER);
}

// Whether the rule decides from the root down, node by node.
fn walks_down(request: u32) -> bool {
    let rule = requests[request].rule;
    return rule == RULE_GREEDY || rule == RULE_REJECTION || rule == RULE_CHAIN;
}
