// Largest logit of each block of the vocabulary, first pass of the argmax; `verify/greedy.wgsl`
// and `ops/argmax_rows.wgsl` take the largest over the blocks. Ties go to the lowest token id; a
// NaN never wins. One workgroup a (block, row).

struct ArgmaxParams {
    vocabulary: u32, // logits of a row
    stride: u32,     // f32s from one row to the next
    block: u32,      // logits of a block
    blocks: u32,     // blocks of a row
}

struct Step {
    rows: u32,
    past: u32,
}

struct Candidate {
    value: f32,
    token: u32,
}

@group(0) @binding(0) var<uniform> params: ArgmaxParams;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> logits: array<f32>; // [row, vocabulary]
@group(0) @binding(3) var<storage, read_write> candidates: array<Candidate>; // [row, block]

var<workgroup> best: array<Candidate, WORKGROUP_X>;

const LOWEST: f32 = -3.4028234e38;
const NO_TOKEN: u32 = 0xffffffffu;

// Whether `a` beats `b`: larger, or equal with the lower id. False whenever a is NaN.
fn beats(a: Candidate, b: Candidate) -> bool {
    return a.value > b.value || (a.value == b.value && a.token < b.token);
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y;
    let begin = group.x * params.block;
    let end = min(begin + params.block, params.vocabulary);
    var own = Candidate(LOWEST, NO_TOKEN);
    for (var token = begin + lane; token < end; token += WORKGROUP_X) {
        let candidate = Candidate(logits[row * params.stride + token], token);
        if beats(candidate, own) {
            own = candidate;
        }
    }
    best[lane] = own;
    workgroupBarrier(); // orders every invocation's candidate before the scan
    if lane == 0u {
        for (var i = 1u; i < WORKGROUP_X; i++) {
            if beats(best[i], own) {
                own = best[i];
            }
        }
        candidates[row * params.blocks + group.x] = own;
    }
}
