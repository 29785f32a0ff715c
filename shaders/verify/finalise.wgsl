// Ends a step of a batch: moves every request's committed length on, after everything that needs the old
// one. One invocation a request.

struct FinaliseParams {
    batch: u32,
    outcome_words: u32, // words from one outcome to the next
}

@group(0) @binding(0) var<uniform> params: FinaliseParams;
@group(0) @binding(1) var<storage, read> outcome: array<u32>;
@group(0) @binding(2) var<storage, read_write> lengths: array<vec4<u32>>; // [request]: (rows, past, -, -)

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < params.batch {
        // A flagged step commits nothing: the host sees the flags first.
        let start = id.x * params.outcome_words;
        let kept = select(0u, outcome[start] + 1u, outcome[start + 1u] == 0u);
        lengths[id.x].y += kept;
    }
}
