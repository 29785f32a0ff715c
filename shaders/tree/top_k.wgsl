// The k largest logits of each block of the vocabulary, with the block's sum of exponentials. One
// workgroup a (block, row). Twin: reference::tree::top_k.

@group(0) @binding(1) var<storage, read> logits: array<f32>; // [row, vocabulary]
// [row, block, k + 1]: keys and draft ids in falling order, then (-, bits of the sum)
@group(0) @binding(2) var<storage, read_write> blocks: array<Ranked>;

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y / params.rows * params.request_rows + params.first_row + group.y % params.rows;
    let start = row * params.row_stride;
    let begin = group.x * BLOCK;
    let end = min(begin + BLOCK, params.vocabulary);
    var own = nothing(lane);
    for (var token = begin + lane; token < end; token += WORKGROUP_X) {
        let key = key_of(bitcast<u32>(logits[start + token]));
        // Tokens ascend, so an equal one loses.
        if key > own.key {
            own = Ranked(key, token);
        }
    }
    find_bound(own, params.k, lane);

    let maximum = finite_number(best.key);
    var sum = 0.0;
    for (var token = begin + lane; token < end; token += WORKGROUP_X) {
        let candidate = Ranked(key_of(bitcast<u32>(logits[start + token])), token);
        if candidate.key != NO_KEY {
            sum += exp(finite_number(candidate.key) - maximum);
            list(candidate);
        }
    }
    let total = sum_of(sum, lane); // its barriers also order the list before its reads
    let count = min(atomicLoad(&listed_count), LIST);
    let out = (group.y * params.blocks + group.x) * (params.k + 1u);
    for (var i = lane; i < count; i += WORKGROUP_X) {
        let rank = rank_of(listed[i], count);
        if rank < params.k {
            blocks[out + rank] = listed[i];
        }
    }
    for (var i = count + lane; i < params.k; i += WORKGROUP_X) {
        blocks[out + i] = Ranked(NO_KEY, NONE);
    }
    if lane == 0u {
        blocks[out + params.k] = Ranked(best.key, bitcast<u32>(total));
    }
}
