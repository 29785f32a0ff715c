// y += bias: one workgroup a row.

struct BiasParams {
    width: u32,  // f32s of a row that have a bias
    stride: u32, // f32s from one row to the next
}

struct Step {
    rows: u32,
    past: u32,
}

@group(0) @binding(0) var<uniform> params: BiasParams;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> bias: array<f32>;    // [width]
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [row, width]

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x;
    if row >= step.rows {
        return;
    }
    for (var i = lane; i < params.width; i += WORKGROUP_X) {
        let at = row * params.stride + i;
        y[at] = y[at] + bias[i];
    }
}
