// The L likeliest tokens of each row where a kept token was chosen, from those of its blocks, with their
// log-probabilities under the raw logits; zeros at places past the path. One workgroup a (place, request). Twin:
// reference::verify::top_log_probabilities.

@group(0) @binding(1) var<storage, read_write> outcome: array<u32>;
@group(0) @binding(2) var<storage, read> blocks: array<Ranked>; // as in verify/top.wgsl

const LOWEST: f32 = -3.4028234e38;

var<workgroup> is_kept: u32;

fn write_top(request: u32, place: u32, rank: u32, token: u32, raw: u32) {
    outcome[top_word(request, 0u, place, rank)] = token;
    outcome[top_word(request, 1u, place, rank)] = raw;
    // The processed one is another kernel's.
    outcome[top_word(request, 2u, place, rank)] = 0u;
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = group.x;
    let request = group.y;
    if lane == 0u {
        is_kept = select(0u, 1u, place < kept_count(request));
    }
    if workgroupUniformLoad(&is_kept) == 0u {
        for (var i = lane; i < params.top; i += WORKGROUP_X) {
            write_top(request, place, i, 0u, 0u);
        }
        return;
    }
    let k = params.top;
    let start = (request * params.max_nodes + place) * params.blocks * (k + 1u);
    let total = params.blocks * k;
    var own = nothing(lane);
    for (var i = lane; i < total; i += WORKGROUP_X) {
        let candidate = blocks[start + i / k * (k + 1u) + i % k];
        // Blocks ascend but ranks do not: the token decides between equal ones.
        if candidate.key != NO_KEY && beats(candidate, own) {
            own = candidate;
        }
    }
    find_bound(own, k, lane);

    for (var i = lane; i < total; i += WORKGROUP_X) {
        list(blocks[start + i / k * (k + 1u) + i % k]);
    }
    let maximum = finite_number(best.key);
    var sum = 0.0;
    for (var block = lane; block < params.blocks; block += WORKGROUP_X) {
        let end = blocks[start + block * (k + 1u) + k];
        if end.key != NO_KEY {
            sum += bitcast<f32>(end.index) * exp(max(finite_number(end.key) - maximum, -150.0));
        }
    }
    let mass = sum_of(sum, lane); // its barriers also order the list before its reads
    if lane == 0u {
        sums[0] = log(max(mass, 1e-30));
    }
    workgroupBarrier(); // orders the logarithm before its reads
    let log_mass = sums[0];
    let count = min(atomicLoad(&listed_count), LIST);
    for (var i = lane; i < count; i += WORKGROUP_X) {
        let rank = rank_of(listed[i], count);
        if rank < k {
            let raw = clamp(finite_number(listed[i].key) - maximum - log_mass, LOWEST, 0.0);
            write_top(request, place, rank, listed[i].index, bitcast<u32>(raw));
        }
    }
    for (var i = count + lane; i < k; i += WORKGROUP_X) {
        write_top(request, place, i, NONE, bitcast<u32>(LOWEST));
    }
}
