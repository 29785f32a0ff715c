// The k best tokens of each draw from those of its blocks. One workgroup a (node and draw, request). What lies past
// a level's end is not read by anyone. Twin: reference::tree::drawn.

@group(0) @binding(1) var<storage, read> blocks: array<Ranked>; // [request, node and draw, block, k]
@group(0) @binding(2) var<storage, read_write> candidates: array<Ranked>; // [request, node and draw, k]

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let k = params.k;
    let own_list = list_of(group.y, group.x);
    let start = own_list * params.blocks * k;
    let total = params.blocks * k;
    var own = nothing(lane);
    for (var i = lane; i < total; i += WORKGROUP_X) {
        let candidate = blocks[start + i];
        // Blocks ascend but ranks do not: the token decides between equal ones.
        if candidate.key != NO_KEY && beats(candidate, own) {
            own = candidate;
        }
    }
    find_bound(own, k, lane);
    for (var i = lane; i < total; i += WORKGROUP_X) {
        list(blocks[start + i]);
    }
    workgroupBarrier(); // orders the list before its reads
    let count = min(atomicLoad(&listed_count), LIST);
    for (var i = lane; i < count; i += WORKGROUP_X) {
        let rank = rank_of(listed[i], count);
        if rank < k {
            candidates[own_list * k + rank] = listed[i];
        }
    }
    for (var i = count + lane; i < k; i += WORKGROUP_X) {
        candidates[own_list * k + i] = Ranked(NO_KEY, NONE);
    }
}
