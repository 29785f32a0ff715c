// Activations loaded once per subgroup of 4 and spread by broadcast: see x_spread8.wgsl. Each
// lane loads two quads of the block.

struct Activations {
    low: vec4<f32>,  // quad `lane` of the block
    high: vec4<f32>, // quad `4 + lane`
}

fn load_activations(token: u32, block: u32, lane: u32) -> Activations {
    let base = token * params.x_stride + block * QUADS + (lane & 3u);
    return Activations(x[base], x[base + 4u]);
}

fn activation_quad(a: Activations, quad: u32) -> vec4<f32> {
    switch quad {
        case 0u: { return subgroupBroadcast(a.low, 0u); }
        case 1u: { return subgroupBroadcast(a.low, 1u); }
        case 2u: { return subgroupBroadcast(a.low, 2u); }
        case 3u: { return subgroupBroadcast(a.low, 3u); }
        case 4u: { return subgroupBroadcast(a.high, 0u); }
        case 5u: { return subgroupBroadcast(a.high, 1u); }
        case 6u: { return subgroupBroadcast(a.high, 2u); }
        default: { return subgroupBroadcast(a.high, 3u); }
    }
}

// Sum of the block's activations.
fn activation_total(a: Activations) -> f32 {
    let l = (a.low.x + a.low.y) + (a.low.z + a.low.w);
    let h = (a.high.x + a.high.y) + (a.high.z + a.high.w);
    let low = (subgroupBroadcast(l, 0u) + subgroupBroadcast(l, 1u))
        + (subgroupBroadcast(l, 2u) + subgroupBroadcast(l, 3u));
    let high = (subgroupBroadcast(h, 0u) + subgroupBroadcast(h, 1u))
        + (subgroupBroadcast(h, 2u) + subgroupBroadcast(h, 3u));
    return low + high;
}
