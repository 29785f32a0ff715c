// The k best of each row from those of its blocks, with the logarithms of their probabilities under
// the row's softmax. One workgroup a row. Twin: reference::tree::top_k.

struct Candidate {
    token: u32,           // NONE where a row has fewer than k numbers
    log_probability: f32, // at most 0
}

@group(0) @binding(1) var<storage, read> blocks: array<Ranked>; // [row, block, k + 1]
@group(0) @binding(2) var<storage, read> token_map: array<u32>; // [draft id]
@group(0) @binding(3) var<storage, read_write> candidates: array<Candidate>; // [row, k]

const LOWEST: f32 = -3.4028234e38;

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let k = params.k;
    let start = group.x * params.blocks * (k + 1u);
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
            sum += bitcast<f32>(end.index) * exp(finite_number(end.key) - maximum);
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
            let id = listed[i].index;
            let token = select(id, token_map[select(0u, id, params.mapped == 1u)], params.mapped == 1u);
            let log_probability = finite_number(listed[i].key) - maximum - log_mass;
            candidates[group.x * k + rank] = Candidate(token, clamp(log_probability, LOWEST, 0.0));
        }
    }
    for (var i = count + lane; i < k; i += WORKGROUP_X) {
        candidates[group.x * k + i] = Candidate(NONE, LOWEST);
    }
}
