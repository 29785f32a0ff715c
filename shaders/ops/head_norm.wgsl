// RMSNorm of each query and key head in place (QK-norm: Henry et al. 2020; Qwen3). One workgroup a head of
// a row. Sums go in a fixed order: each invocation adds every WORKGROUP_X-th element, then invocation
// order.

struct HeadNormParams {
    head_dim: u32,
    query_heads: u32, // heads with the first weight; the others have the second
    stride: u32,      // f32s from one row to the next
    epsilon: f32,
}

struct Step {
    rows: u32,
    past: u32,
}

@group(0) @binding(0) var<uniform> params: HeadNormParams;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> query_weight: array<f32>; // [head_dim]
@group(0) @binding(3) var<storage, read> key_weight: array<f32>;   // [head_dim]
@group(0) @binding(4) var<storage, read_write> x: array<f32>;      // [row, head, head_dim]

var<workgroup> squares: array<f32, WORKGROUP_X>;

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let head = group.x;
    let origin = group.y * params.stride + head * params.head_dim;
    var sum = 0.0;
    for (var i = lane; i < params.head_dim; i += WORKGROUP_X) {
        let v = x[origin + i];
        sum = fma(v, v, sum);
    }
    squares[lane] = sum;
    workgroupBarrier(); // orders every invocation's sum before the reads below
    var total = 0.0;
    for (var i = 0u; i < WORKGROUP_X; i++) {
        total += squares[i];
    }
    if group.y >= step.rows {
        return;
    }
    let scale = 1.0 / sqrt(total / f32(params.head_dim) + params.epsilon);
    for (var i = lane; i < params.head_dim; i += WORKGROUP_X) {
        // The elements that this invocation read itself.
        let weight = select(key_weight[i], query_weight[i], head < params.query_heads);
        x[origin + i] = x[origin + i] * scale * weight;
    }
}
