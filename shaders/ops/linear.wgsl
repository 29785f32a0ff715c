// What the kernels of a linear layer share: parameters, bindings, the layout of the weights.

const TILE_ROWS: u32 = 32u; // rows of an interleaved tile of weights: see ops/matrix.rs
const QUADS: u32 = 8u;      // vec4s in a block of 32 weights

struct LinearParams {
    blocks: u32,   // blocks of 32 weights in a row
    rows: u32,     // rows of the result before padding
    x_stride: u32, // vec4s from one token's activations to the next
    y_stride: u32, // f32s from one token's results to the next
    y_offset: u32, // f32s before the first row's result
    tiles: u32,    // row tiles of this part
}

struct Step {
    rows: u32, // tokens of this step
    past: u32, // keys committed before this step
}

@group(0) @binding(0) var<uniform> params: LinearParams;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>; // [token, k / 4]
@group(0) @binding(3) var<storage, read> quants: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [token, row]

// Explicit fma: the bits don't depend on what the compiler likes to contract.
fn fma_quad(a: vec4<f32>, b: vec4<f32>, sum: f32) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}
