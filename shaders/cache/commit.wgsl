// Commit: keeps the keys and values of the accepted nodes of a draft tree and drops the rest, in
// all layers that share a buffer.
//
// Node n of the draft wrote slot past + n. The accepted path is ascending and path[i] >= i, so
// moving slot past + path[i] to past + i for i = 0, 1, ... never overwrites a slot that is still
// to be read. Each invocation owns one quad position of one head of one layer and moves it along
// the whole path by itself, in order: no invocation reads what another writes, hence no race.

struct CommitParams {
    lanes: u32,     // [layer, key or value, kv_head, quad] positions in this buffer
    quads: u32,     // 16-byte units of a slot of one head
    capacity: u32,  // slots of one head
    max_nodes: u32, // stride of the outcome's arrays
}

struct Step {
    rows: u32,
    past: u32,
}

@group(0) @binding(0) var<uniform> params: CommitParams;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> outcome: array<u32>; // see verify/greedy.wgsl
@group(0) @binding(3) var<storage, read_write> cache: array<vec4<u32>>; // [head, slot, quad]

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let position = id.y * groups.x * WORKGROUP_X + id.x;
    if position >= params.lanes {
        return;
    }
    let head = position / params.quads;
    let quad = position % params.quads;
    let accepted = min(outcome[0], params.max_nodes - 1u);
    for (var i = 1u; i <= accepted; i++) {
        let node = outcome[2u + i];
        let source = step.past + node;
        let target_slot = step.past + i;
        if node != i && source < params.capacity {
            let base = head * params.capacity;
            cache[(base + target_slot) * params.quads + quad] =
                cache[(base + source) * params.quads + quad];
        }
    }
}
