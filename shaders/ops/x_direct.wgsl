// Activations read by every invocation itself: one address for all lanes of a subgroup, which
// hardware serves with one broadcast load.

struct Activations {
    base: u32,
}

fn load_activations(token: u32, block: u32, lane: u32) -> Activations {
    return Activations(token * params.x_stride + block * QUADS);
}

fn activation_quad(a: Activations, quad: u32) -> vec4<f32> {
    return x[a.base + quad];
}

// Sum of the block's activations, in the order of x_spread8.wgsl.
fn activation_total(a: Activations) -> f32 {
    var sums: array<f32, 8>;
    for (var q = 0u; q < QUADS; q++) {
        let quad = x[a.base + q];
        sums[q] = (quad.x + quad.y) + (quad.z + quad.w);
    }
    let low = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    let high = (sums[4] + sums[5]) + (sums[6] + sums[7]);
    return low + high;
}
