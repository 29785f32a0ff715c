// The likeliest token of one row of draft logits: the best candidate of `ops/argmax.wgsl` over its
// blocks, as a token of the target's vocabulary. Ties go to the lower draft id.

struct ChooseParams {
    blocks: u32,     // candidates of the row
    vocabulary: u32, // ids of the draft vocabulary
}

struct Candidate {
    value: f32,
    token: u32,
}

@group(0) @binding(0) var<uniform> params: ChooseParams;
@group(0) @binding(1) var<storage, read> candidates: array<Candidate>; // [block]
@group(0) @binding(2) var<storage, read> token_of: array<u32>;         // [draft id]
@group(0) @binding(3) var<storage, read_write> chosen: array<u32>;     // [1]

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main() {
    var best = candidates[0];
    for (var block = 1u; block < params.blocks; block++) {
        let other = candidates[block];
        // Blocks ascend, so an equal value in a later block has a higher id and loses.
        if best.token >= params.vocabulary || other.value > best.value {
            best = other;
        }
    }
    // Logits that are all NaN name no token: then the first is drafted, which costs a refusal at most.
    chosen[0] = token_of[min(best.token, params.vocabulary - 1u)];
}
