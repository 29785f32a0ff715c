// The L largest logits of each block of the vocabulary, with the block's sum of exponentials, of the rows where
// kept tokens were chosen. One workgroup a (block, place in the path, request). Twin:
// reference::verify::top_log_probabilities.

@group(0) @binding(1) var<storage, read> outcome: array<u32>;
@group(0) @binding(2) var<storage, read> target_logits: array<u32>; // rows from params.first_row on
// [request, place, block, L + 1]: keys and tokens in falling order, then (-, bits of the sum)
@group(0) @binding(3) var<storage, read_write> blocks: array<Ranked>;

fn target_word(index: u32) -> u32 {
    return target_logits[index];
}

// The files of logits name these; nothing calls them.
fn draft_word(index: u32) -> u32 {
    return 0u;
}

fn target_quad(index: u32) -> vec4<u32> {
    return vec4(0u);
}

fn draft_quad(index: u32) -> vec4<u32> {
    return vec4(0u);
}

var<workgroup> bound_row: u32; // the row of the path's place, from the part's first; NONE where it is elsewhere

fn row_at(request: u32, place: u32) -> u32 {
    if place >= kept_count(request) {
        return NONE;
    }
    let node = min(outcome[request * params.outcome_words + 2u + place], params.max_nodes - 1u);
    let row = request * params.max_nodes + node;
    let inside = row >= params.first_row && row < params.first_row + params.part_rows;
    return select(NONE, row - params.first_row, inside);
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if lane == 0u {
        bound_row = row_at(group.z, group.y);
    }
    let row = workgroupUniformLoad(&bound_row);
    if row == NONE {
        return;
    }
    let start = row * params.row_stride;
    let begin = group.x * BLOCK;
    let end = min(begin + BLOCK, params.vocabulary);
    var own = nothing(lane);
    for (var token = begin + lane; token < end; token += WORKGROUP_X) {
        let key = key_of(target_bits(start + token));
        // Tokens ascend, so an equal one loses.
        if key > own.key {
            own = Ranked(key, token);
        }
    }
    find_bound(own, params.top, lane);

    let maximum = finite_number(best.key);
    var sum = 0.0;
    for (var token = begin + lane; token < end; token += WORKGROUP_X) {
        let candidate = Ranked(key_of(target_bits(start + token)), token);
        if candidate.key != NO_KEY {
            sum += exp(max(finite_number(candidate.key) - maximum, -150.0));
            list(candidate);
        }
    }
    let total = sum_of(sum, lane); // its barriers also order the list before its reads
    let count = min(atomicLoad(&listed_count), LIST);
    let out = ((group.z * params.max_nodes + group.y) * params.blocks + group.x) * (params.top + 1u);
    for (var i = lane; i < count; i += WORKGROUP_X) {
        let rank = rank_of(listed[i], count);
        if rank < params.top {
            blocks[out + rank] = listed[i];
        }
    }
    for (var i = count + lane; i < params.top; i += WORKGROUP_X) {
        blocks[out + i] = Ranked(NO_KEY, NONE);
    }
    if lane == 0u {
        blocks[out + params.top] = Ranked(best.key, bitcast<u32>(total));
    }
}
