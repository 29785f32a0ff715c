// Log-probabilities under the processed distribution of the tokens that verify/top_rows.wgsl listed. One
// workgroup a request; it works on what has its rows in the bound part.

@group(0) @binding(7) var<storage, read_write> outcome: array<u32>; // as in verify/top_params.wgsl

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let request = group.x;
    let n = params.max_nodes;
    let start = request * params.outcome_words;
    let kept = min(outcome[start], n - 1u) + 1u;
    for (var i = lane; i < kept * params.top; i += WORKGROUP_X) {
        let node = min(outcome[start + 2u + i / params.top], n - 1u);
        let row = request * n + node;
        let token = outcome[start + 2u + 4u * n + i];
        if row >= params.first_row && row < params.first_row + params.part_rows {
            var log_p = LOWEST;
            if token < params.vocabulary {
                let z = target_z(target_source(request, node), requests[request].sampling, token);
                let p = probability(nodes[row].after, z, token);
                log_p = select(LOWEST, log(p), p > 0.0);
            }
            outcome[start + 2u + 4u * n + 2u * n * params.top + i] = bitcast<u32>(log_p);
        }
    }
}
