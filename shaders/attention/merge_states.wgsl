// Merges attention states over disjoint sets of keys into the state over their union:
// LSE = ln(sum exp LSE_i), O = sum exp(LSE_i - LSE) O_i, in ascending order. For shared prefixes,
// and for keys on several devices. One workgroup a row.

struct MergeStatesParams {
    states: u32,
    rows: u32,
    groups_x: u32, // workgroups along x
}

@group(0) @binding(0) var<uniform> params: MergeStatesParams;
@group(0) @binding(1) var<storage, read> outputs: array<StoredValue>; // [state, row, quad]
@group(0) @binding(2) var<storage, read> lses: array<f32>; // [state, row]
@group(0) @binding(3) var<storage, read_write> output: array<StoredOutput>; // [row, quad]
@group(0) @binding(4) var<storage, read_write> lse: array<f32>; // [row]

// LSE of a state that saw no key, here and in the result. Lower ones, also -inf, mean the same.
const MASKED: f32 = -1e30;

fn state_lse(state: u32, row: u32) -> f32 {
    return max(lses[state * params.rows + row], MASKED);
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * params.groups_x + group.x;
    if row >= params.rows {
        return;
    }
    var maximum = MASKED;
    for (var state = 0u; state < params.states; state++) {
        maximum = max(maximum, state_lse(state, row));
    }
    var total = 0.0;
    for (var state = 0u; state < params.states; state++) {
        let own = state_lse(state, row);
        total += select(0.0, exp(own - maximum), own > MASKED);
    }
    let inverse = select(0.0, 1.0 / total, total > 0.0);
    for (var quad = lane; quad < V_QUADS; quad += WORKGROUP_X) {
        var sum = vec4(0.0);
        for (var state = 0u; state < params.states; state++) {
            let own = state_lse(state, row);
            // A state that saw no key is not read for its output, whatever it holds.
            if own > MASKED {
                let at = (state * params.rows + row) * V_QUADS + quad;
                sum = fma(vec4(exp(own - maximum)), value_quad(outputs[at]), sum);
            }
        }
        output[row * V_QUADS + quad] = stored_output(sum * inverse);
    }
    if lane == 0u {
        lse[row] = select(MASKED, maximum + log(total), total > 0.0);
    }
}
