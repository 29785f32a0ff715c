// Invocations see each other's numbers through workgroup memory: works everywhere.

var<workgroup> staged_query: array<vec4<f32>, ROWS * K_PARTS * LANES>;
var<workgroup> staged: array<f32, ROWS * LANES>;

fn hold_query(r: u32, part: u32, lane: u32, quad: vec4<f32>) {
    staged_query[(r * K_PARTS + part) * LANES + lane] = quad;
}

fn publish_queries() {
    workgroupBarrier(); // orders hold_query before query_part
}

fn query_part(r: u32, part: u32, j: u32) -> vec4<f32> {
    return staged_query[(r * K_PARTS + part) * LANES + j];
}

fn score_tile(key_base: u32) -> Rows {
    var scores: Rows;
    for (var part = 0u; part < K_PARTS; part++) {
        for (var j = 0u; j < LANES; j++) {
            score_quad(part, j, key_base, &scores);
        }
    }
    return scores;
}

fn publish(lane: u32, values: Rows) {
    workgroupBarrier(); // orders the reads of the values before these
    for (var r = 0u; r < ROWS; r++) {
        staged[r * LANES + lane] = values[r];
    }
    workgroupBarrier(); // orders these values before their reads
}

fn rows_maximum(lane: u32, values: Rows) -> Rows {
    publish(lane, values);
    var maximum: Rows;
    for (var r = 0u; r < ROWS; r++) {
        maximum[r] = MASKED;
        for (var j = 0u; j < LANES; j++) {
            maximum[r] = max(maximum[r], staged[r * LANES + j]);
        }
    }
    return maximum;
}

fn publish_weights(lane: u32, weights: Rows) {
    publish(lane, weights);
}

fn rows_sum(weights: Rows) -> Rows {
    var sum: Rows;
    for (var r = 0u; r < ROWS; r++) {
        for (var j = 0u; j < LANES; j++) {
            sum[r] = sum[r] + staged[r * LANES + j];
        }
    }
    return sum;
}

fn weight_of(r: u32, j: u32) -> f32 {
    return staged[r * LANES + j];
}

fn accumulate_tile(tile: u32, end: u32, lane: u32, value_head: u32) {
    for (var j = 0u; j < LANES; j++) {
        accumulate_key(j, lane, value_head + min(tile + j, end - 1u) * params.v_token);
    }
}
