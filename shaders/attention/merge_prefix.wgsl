// Joins what each row got from a shared prefix with what it got from its own keys, by their LSEs. One
// workgroup a row.

@group(0) @binding(2) var<storage, read> prefix_output: array<vec4<f32>>; // [sequence, query, head, quad]
@group(0) @binding(3) var<storage, read> prefix_lse: array<f32>; // [sequence, query, head]
@group(0) @binding(4) var<storage, read> own_output: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> own_lse: array<f32>;
@group(0) @binding(6) var<storage, read_write> output: array<StoredOutput>;

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let head = group.x;
    let q = group.y;
    let sequence = group.z;
    let queries = min(lengths[sequence].queries, params.max_queries);
    if q >= queries {
        return;
    }
    let row = (sequence * params.max_queries + q) * params.query_heads + head;
    let a = prefix_lse[row];
    let b = own_lse[row];
    let most = max(a, b);
    // A row that saw no key at all has two states of 0, whose mean is 0.
    let weight_a = exp2((a - most) * LOG2_E);
    let weight_b = exp2((b - most) * LOG2_E);
    let total = weight_a + weight_b;
    let at = sequence * params.o_batch + q * params.o_token + head * params.o_head;
    for (var quad = lane; quad < V_QUADS; quad += WORKGROUP_X) {
        let sum = weight_a * prefix_output[row * V_QUADS + quad] + weight_b * own_output[row * V_QUADS + quad];
        output[at + quad] = stored_output(sum / total);
    }
    if lane == 0u {
        store_lse(row, select(most + log2(total) * LN_2, MASKED, most <= MASKED * 0.5));
    }
}
