// Invocations see each other's numbers by broadcast inside one subgroup of 4, which is the whole
// workgroup: no workgroup memory, no barrier. A broadcast needs a constant lane, hence the calls
// with constants.

var<private> held_query: array<array<vec4<f32>, K_PARTS>, ROWS>;
var<private> held_weights: Rows;

fn hold_query(r: u32, part: u32, lane: u32, quad: vec4<f32>) {
    held_query[r][part] = quad;
}

fn publish_queries() {}

fn query_part(r: u32, part: u32, j: u32) -> vec4<f32> {
    let quad = held_query[r][part];
    switch j {
        case 0u: { return subgroupBroadcast(quad, 0u); }
        case 1u: { return subgroupBroadcast(quad, 1u); }
        case 2u: { return subgroupBroadcast(quad, 2u); }
        default: { return subgroupBroadcast(quad, 3u); }
    }
}

fn score_tile(key_base: u32) -> Rows {
    var scores: Rows;
    for (var part = 0u; part < K_PARTS; part++) {
        score_quad(part, 0u, key_base, &scores);
        score_quad(part, 1u, key_base, &scores);
        score_quad(part, 2u, key_base, &scores);
        score_quad(part, 3u, key_base, &scores);
    }
    return scores;
}

fn rows_maximum(lane: u32, values: Rows) -> Rows {
    var maximum: Rows;
    for (var r = 0u; r < ROWS; r++) {
        maximum[r] = subgroupMax(values[r]);
    }
    return maximum;
}

fn publish_weights(lane: u32, weights: Rows) {
    held_weights = weights;
}

// In lane order: the order of a subgroupAdd is the driver's choice.
fn rows_sum(weights: Rows) -> Rows {
    var sum: Rows;
    for (var r = 0u; r < ROWS; r++) {
        sum[r] = sum[r] + subgroupBroadcast(weights[r], 0u);
        sum[r] = sum[r] + subgroupBroadcast(weights[r], 1u);
        sum[r] = sum[r] + subgroupBroadcast(weights[r], 2u);
        sum[r] = sum[r] + subgroupBroadcast(weights[r], 3u);
    }
    return sum;
}

fn weight_of(r: u32, j: u32) -> f32 {
    let weight = held_weights[r];
    switch j {
        case 0u: { return subgroupBroadcast(weight, 0u); }
        case 1u: { return subgroupBroadcast(weight, 1u); }
        case 2u: { return subgroupBroadcast(weight, 2u); }
        default: { return subgroupBroadcast(weight, 3u); }
    }
}

// Adds the values of a tile whose last key is `last`, counted from the first.
fn accumulate_tile(last: u32, lane: u32, value_tile: u32) {
    accumulate_key(0u, lane, value_tile + min(0u, last) * params.v_token);
    accumulate_key(1u, lane, value_tile + min(1u, last) * params.v_token);
    accumulate_key(2u, lane, value_tile + min(2u, last) * params.v_token);
    accumulate_key(3u, lane, value_tile + min(3u, last) * params.v_token);
}
