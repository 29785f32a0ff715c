// RMSNorm (Zhang and Sennrich 2019): y = x / sqrt(mean(x^2) + epsilon) * weight, one workgroup a
// row. Sums go in a fixed order: each invocation adds every WORKGROUP_X-th quad, then invocation
// order.

struct RmsNormParams {
    width: u32,    // f32s of a row
    quads: u32,    // vec4s of a row
    x_stride: u32, // vec4s from one row to the next
    y_stride: u32,
    epsilon: f32,
    last_only: u32, // 1: normalise only the step's last row, into row 0
}

struct Step {
    rows: u32,
    past: u32,
}

@group(0) @binding(0) var<uniform> params: RmsNormParams;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>; // [row, width]
@group(0) @binding(3) var<storage, read> weight: array<vec4<f32>>; // [width]
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>; // [row, width]

var<workgroup> squares: array<f32, WORKGROUP_X>;

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x;
    let source = select(row, max(step.rows, 1u) - 1u, params.last_only == 1u);
    var sum = 0.0;
    for (var i = lane; i < params.quads; i += WORKGROUP_X) {
        let v = x[source * params.x_stride + i];
        sum = fma(v.w, v.w, fma(v.z, v.z, fma(v.y, v.y, fma(v.x, v.x, sum))));
    }
    squares[lane] = sum;
    workgroupBarrier(); // orders every invocation's sum before the reads below
    var total = 0.0;
    for (var i = 0u; i < WORKGROUP_X; i++) {
        total += squares[i];
    }
    let scale = 1.0 / sqrt(total / f32(params.width) + params.epsilon);
    for (var i = lane; i < params.quads; i += WORKGROUP_X) {
        y[row * params.y_stride + i] = x[source * params.x_stride + i] * scale * weight[i];
    }
}
