// Activations loaded once per subgroup of 8 and spread by broadcast. A software adapter pays for
// every lane of a load, also where all lanes read one address: here each lane loads another quad.

struct Activations {
    quad: vec4<f32>,
}

fn load_activations(token: u32, block: u32, lane: u32) -> Activations {
    return Activations(x[token * params.x_stride + block * QUADS + (lane & 7u)]);
}

fn activation_quad(a: Activations, quad: u32) -> vec4<f32> {
    // A broadcast needs a constant lane; `quad` is a loop counter that compilers unroll.
    switch quad {
        case 0u: { return subgroupBroadcast(a.quad, 0u); }
        case 1u: { return subgroupBroadcast(a.quad, 1u); }
        case 2u: { return subgroupBroadcast(a.quad, 2u); }
        case 3u: { return subgroupBroadcast(a.quad, 3u); }
        case 4u: { return subgroupBroadcast(a.quad, 4u); }
        case 5u: { return subgroupBroadcast(a.quad, 5u); }
        case 6u: { return subgroupBroadcast(a.quad, 6u); }
        default: { return subgroupBroadcast(a.quad, 7u); }
    }
}

// Sum of the block's activations.
fn activation_total(a: Activations) -> f32 {
    let sum = (a.quad.x + a.quad.y) + (a.quad.z + a.quad.w);
    let low = (subgroupBroadcast(sum, 0u) + subgroupBroadcast(sum, 1u))
        + (subgroupBroadcast(sum, 2u) + subgroupBroadcast(sum, 3u));
    let high = (subgroupBroadcast(sum, 4u) + subgroupBroadcast(sum, 5u))
        + (subgroupBroadcast(sum, 6u) + subgroupBroadcast(sum, 7u));
    return low + high;
}
