// The features of the rows that were kept: y[row] = x[index[row]]. One workgroup a row.

struct GatherParams {
    quads: u32,  // vec4s of a row
    stride: u32, // vec4s from one row to the next, of x and y
    rows: u32,   // rows of x; an index past them is cut
}

struct Step {
    rows: u32,
    past: u32,
}

@group(0) @binding(0) var<uniform> params: GatherParams;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> index: array<u32>; // [row]
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x;
    if row >= step.rows {
        return;
    }
    let source = min(index[row], params.rows - 1u);
    for (var i = lane; i < params.quads; i += WORKGROUP_X) {
        y[row * params.stride + i] = x[source * params.stride + i];
    }
}
