// One row of draft logits, over the ids of a draft vocabulary, as a row over all tokens: one that can't be drafted gets
// -inf. The bits travel as they are.

struct SpreadParams {
    vocabulary: u32, // tokens
    ids: u32,        // of the draft vocabulary
}

const NONE: u32 = 0xffffffffu;
const MINUS_INFINITY: u32 = 0xff800000u;

@group(0) @binding(0) var<uniform> params: SpreadParams;
@group(0) @binding(1) var<storage, read> logits: array<u32>;      // [draft id], bits of f32
@group(0) @binding(2) var<storage, read> id_of: array<u32>;       // [token]; NONE: it can't be drafted
@group(0) @binding(3) var<storage, read_write> spread: array<u32>; // [token], bits of f32

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let token = at.x;
    if token >= params.vocabulary {
        return;
    }
    let id = id_of[token];
    spread[token] = select(logits[min(id, params.ids - 1u)], MINUS_INFINITY, id == NONE);
}
