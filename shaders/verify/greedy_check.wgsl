// After the greedy walk, which sees only a part of the blob: whether the rest of it is a tree too, as verify/check.wgsl has
// it. One workgroup. How children were drawn is not known here, so equal siblings pass; the first of them is taken.

struct GreedyCheckParams {
    vocabulary: u32,
    max_nodes: u32,
    tree_words: u32,  // words of the blob
    tree_stride: u32, // nodes that it has room for
}

struct Step {
    rows: u32,
    past: u32,
}

@group(0) @binding(0) var<uniform> params: GreedyCheckParams;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(3) var<storage, read_write> outcome: array<u32>; // as in verify/greedy.wgsl

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(@builtin(local_invocation_index) lane: u32) {
    // The blob says itself how many nodes it has; the step, for how many there may be logits.
    let count = select(0u, node_count(0u), node_count(0u) <= step.rows);
    begin_links(count, lane);
    for (var node = lane; node < count; node += WORKGROUP_X) {
        let flags = flags_of(0u, node, count);
        if flags != 0u {
            atomicOr(&found, flags);
        }
    }
    let flags = end_links(count, lane);
    if lane == 0u {
        outcome[1] |= flags;
    }
}
