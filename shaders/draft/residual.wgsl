// Residual blocks on one row: y[head] = x + SiLU(y[head] + bias[head]), where y holds the products W x of
// each head (Cai et al. 2024, Medusa, section 2.1.1). One workgroup a head. Twin: reference::draft::residual.

struct ResidualParams {
    width: u32,  // f32s of a row that count
    stride: u32, // f32s from one head to the next, of y and bias
}

@group(0) @binding(0) var<uniform> params: ResidualParams;
@group(0) @binding(1) var<storage, read> x: array<f32>;       // [width]
@group(0) @binding(2) var<storage, read> bias: array<f32>;    // [head, stride]
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [head, stride]

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    for (var i = lane; i < params.width; i += WORKGROUP_X) {
        let at = group.x * params.stride + i;
        let z = y[at] + bias[at];
        y[at] = x[i] + z / (1.0 + exp(-z));
    }
}
