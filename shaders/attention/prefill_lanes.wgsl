// Attention for many rows on an adapter whose subgroup is one SIMD vector of a CPU.
//
// One workgroup is one subgroup of LANES invocations; each invocation holds LANE_ROWS packed rows of
// one KV head (row = query * group + head of the group): their queries, output sums and softmax
// states. Keys and values are loaded once for the whole subgroup, another quad in each lane, and
// spread by broadcast: such an adapter pays for every lane of a load, also where all read one
// address. No workgroup memory, no barrier.
//
// Tiles of four keys go through the online softmax (Milakov and Gimelshein 2018): scores, new
// maximum, rescaling of what came before, accumulation. These drivers keep arrays in registers only
// where every index is a constant, and unroll small loops only: hence the calls with constants.

const K_PARTS: u32 = (K_QUADS + LANES - 1u) / LANES; // key quads that one lane loads of a key
const TILE: u32 = 4u; // as many as `score_quad` takes at a time

alias Rows = array<f32, LANE_ROWS>;

@group(0) @binding(2) var<storage, read> query: array<StoredQuery>;
@group(0) @binding(3) var<storage, read> key: array<StoredKey>;
@group(0) @binding(4) var<storage, read> value: array<StoredValue>;
@group(0) @binding(5) var<storage, read_write> output: array<StoredOutput>;

var<private> held_query: array<array<vec4<f32>, K_QUADS>, LANE_ROWS>;
var<private> accumulator: array<array<vec4<f32>, V_QUADS>, LANE_ROWS>;
var<private> scores: array<array<f32, TILE>, LANE_ROWS>; // then the weights
var<private> rescale: Rows;
var<private> hidden: u32; // exponents from here on are hidden: those of NaN and infinity, or none

// Rows of the tile's first key and value, and its last key, counted from the first.
struct Tile {
    key: u32,
    value: u32,
    last: u32,
}

// ---- Scores

// Adds key quad `quad`, which lane `j` holds of the tile's keys, to the scores.
fn score_quad(quad: u32, j: u32, held: array<vec4<f32>, TILE>) {
    if quad < K_QUADS {
        let k0 = spread(held[0], j);
        let k1 = spread(held[1], j);
        let k2 = spread(held[2], j);
        let k3 = spread(held[3], j);
        for (var r = 0u; r < LANE_ROWS; r++) {
            let q = held_query[r][quad];
            scores[r][0] = fma_quad(q, k0, scores[r][0]);
            scores[r][1] = fma_quad(q, k1, scores[r][1]);
            scores[r][2] = fma_quad(q, k2, scores[r][2]);
            scores[r][3] = fma_quad(q, k3, scores[r][3]);
        }
    }
}

fn load_key(tile: Tile, j: u32, quad: u32) -> vec4<f32> {
    return key_at(tile.key + min(j, tile.last) * params.k_token, min(quad, K_QUADS - 1u));
}

// Adds the key quads of part `part`, one a lane, to the scores.
fn score_part(tile: Tile, part: u32, lane: u32) {
    if part < K_PARTS {
        let quad = part * LANES;
        let held = array<vec4<f32>, TILE>(
            load_key(tile, 0u, quad + lane),
            load_key(tile, 1u, quad + lane),
            load_key(tile, 2u, quad + lane),
            load_key(tile, 3u, quad + lane),
        );
        score_quad(quad, 0u, held);
        score_quad(quad + 1u, 1u, held);
        score_quad(quad + 2u, 2u, held);
        score_quad(quad + 3u, 3u, held);
        if LANES == 8u {
            score_quad(quad + 4u, 4u, held);
            score_quad(quad + 5u, 5u, held);
            score_quad(quad + 6u, 6u, held);
            score_quad(quad + 7u, 7u, held);
        }
    }
}

fn score_four_parts(tile: Tile, part: u32, lane: u32) {
    score_part(tile, part, lane);
    score_part(tile, part + 1u, lane);
    score_part(tile, part + 2u, lane);
    score_part(tile, part + 3u, lane);
}

// Scores of the tile's keys.
fn score_tile(tile: Tile, lane: u32) {
    for (var r = 0u; r < LANE_ROWS; r++) {
        scores[r][0] = 0.0;
        scores[r][1] = 0.0;
        scores[r][2] = 0.0;
        scores[r][3] = 0.0;
    }
    score_four_parts(tile, 0u, lane);
    if K_PARTS > 4u {
        score_four_parts(tile, 4u, lane);
    }
    if K_PARTS > 8u {
        score_four_parts(tile, 8u, lane);
        score_four_parts(tile, 12u, lane);
    }
}

// ---- Output

// Rescales quad `quad` of all rows and adds the tile's keys, which the lanes from `j` on hold.
fn accumulate_quad(quad: u32, j: u32, held: vec4<f32>) {
    if quad < V_QUADS {
        let v0 = spread(held, j);
        let v1 = spread(held, j + 1u);
        let v2 = spread(held, j + 2u);
        let v3 = spread(held, j + 3u);
        for (var r = 0u; r < LANE_ROWS; r++) {
            var sum = accumulator[r][quad] * rescale[r];
            sum = fma(vec4(scores[r][0]), v0, sum);
            sum = fma(vec4(scores[r][1]), v1, sum);
            sum = fma(vec4(scores[r][2]), v2, sum);
            accumulator[r][quad] = fma(vec4(scores[r][3]), v3, sum);
        }
    }
}

// What a lane loaded of the values. Where some row of the workgroup does not see a key of the tile,
// which may then hold anything, NaN and infinities become 0: a weight of 0 would not.
fn finite(value: vec4<f32>) -> vec4<f32> {
    let exponent = bitcast<vec4<u32>>(value) & vec4(0x7f800000u);
    return select(value, vec4(0.0), exponent >= vec4(hidden));
}

// Four lanes load a quad of the tile's four keys, the next four lanes the next quad.
fn accumulate_two_quads(tile: Tile, quad: u32, lane: u32) {
    if quad < V_QUADS {
        let row = tile.value + min(lane % 4u, tile.last) * params.v_token;
        let held = finite(value_at(row, min(quad + lane / 4u, V_QUADS - 1u)));
        accumulate_quad(quad, 0u, held);
        if LANES == 8u {
            accumulate_quad(quad + 1u, 4u, held);
        } else if quad + 1u < V_QUADS {
            accumulate_quad(quad + 1u, 0u, finite(value_at(row, quad + 1u)));
        }
    }
}

fn accumulate_eight_quads(tile: Tile, quad: u32, lane: u32) {
    accumulate_two_quads(tile, quad, lane);
    accumulate_two_quads(tile, quad + 2u, lane);
    accumulate_two_quads(tile, quad + 4u, lane);
    accumulate_two_quads(tile, quad + 6u, lane);
}

fn accumulate_tile(tile: Tile, lane: u32) {
    accumulate_eight_quads(tile, 0u, lane);
    if V_QUADS > 8u {
        accumulate_eight_quads(tile, 8u, lane);
    }
    if V_QUADS > 16u {
        accumulate_eight_quads(tile, 16u, lane);
        accumulate_eight_quads(tile, 24u, lane);
    }
    if V_QUADS > 32u {
        accumulate_eight_quads(tile, 32u, lane);
        accumulate_eight_quads(tile, 40u, lane);
        accumulate_eight_quads(tile, 48u, lane);
        accumulate_eight_quads(tile, 56u, lane);
    }
}

// ---- Rows

// Packed row `r` of a lane. Neighbouring lanes hold neighbouring rows.
fn packed_row(row0: u32, r: u32, lane: u32, rows: u32) -> u32 {
    return min(row0 + r * LANES + lane, max(rows, 1u) - 1u);
}

// Loads quad `quad` of row `r`'s query and clears its output sum.
fn begin_quad(r: u32, at: u32, quad: u32) {
    if quad < K_QUADS {
        held_query[r][quad] = query_quad(query[at + quad]) * params.scale;
    }
    if quad < V_QUADS {
        accumulator[r][quad] = vec4(0.0);
    }
}

// Stores quad `quad` of row `r`'s output.
fn end_quad(r: u32, at: u32, inverse: f32, quad: u32) {
    if quad < V_QUADS {
        output[at + quad] = stored_output(accumulator[r][quad] * inverse);
    }
}

fn begin_eight_quads(r: u32, at: u32, quad: u32) {
    begin_quad(r, at, quad);
    begin_quad(r, at, quad + 1u);
    begin_quad(r, at, quad + 2u);
    begin_quad(r, at, quad + 3u);
    begin_quad(r, at, quad + 4u);
    begin_quad(r, at, quad + 5u);
    begin_quad(r, at, quad + 6u);
    begin_quad(r, at, quad + 7u);
}

fn begin_row(r: u32, at: u32) {
    begin_eight_quads(r, at, 0u);
    if max(K_QUADS, V_QUADS) > 8u {
        begin_eight_quads(r, at, 8u);
    }
    if max(K_QUADS, V_QUADS) > 16u {
        begin_eight_quads(r, at, 16u);
        begin_eight_quads(r, at, 24u);
    }
    if max(K_QUADS, V_QUADS) > 32u {
        begin_eight_quads(r, at, 32u);
        begin_eight_quads(r, at, 40u);
        begin_eight_quads(r, at, 48u);
        begin_eight_quads(r, at, 56u);
    }
}

fn end_eight_quads(r: u32, at: u32, inverse: f32, quad: u32) {
    end_quad(r, at, inverse, quad);
    end_quad(r, at, inverse, quad + 1u);
    end_quad(r, at, inverse, quad + 2u);
    end_quad(r, at, inverse, quad + 3u);
    end_quad(r, at, inverse, quad + 4u);
    end_quad(r, at, inverse, quad + 5u);
    end_quad(r, at, inverse, quad + 6u);
    end_quad(r, at, inverse, quad + 7u);
}

fn end_row(r: u32, at: u32, inverse: f32) {
    end_eight_quads(r, at, inverse, 0u);
    if V_QUADS > 8u {
        end_eight_quads(r, at, inverse, 8u);
    }
    if V_QUADS > 16u {
        end_eight_quads(r, at, inverse, 16u);
        end_eight_quads(r, at, inverse, 24u);
    }
    if V_QUADS > 32u {
        end_eight_quads(r, at, inverse, 32u);
        end_eight_quads(r, at, inverse, 40u);
        end_eight_quads(r, at, inverse, 48u);
        end_eight_quads(r, at, inverse, 56u);
    }
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let sequence = group.z;
    let kv_head = params.first_kv_head + group.y;
    let past = past_of(sequence);
    let queries = min(lengths[sequence].queries, params.max_queries);
    let keys = min(past + lengths[sequence].queries, params.max_keys);
    let rows = queries * params.group;
    let row0 = group.x * (LANES * LANE_ROWS);
    if row0 >= rows {
        return;
    }
    let last_query = min(row0 + LANES * LANE_ROWS - 1u, rows - 1u) / params.group;
    let end = visible_end(last_query, past, keys);

    let query_start = first_query(sequence, queries);
    let query_head = sequence * params.q_batch + query_start * params.q_token;
    let stored = head_rows(sequence, kv_head, keys);
    // Tiles before the window of every row are skipped.
    let first_tile = window_begin(row0 / params.group, past) / TILE * TILE;

    for (var r = 0u; r < LANE_ROWS; r++) {
        let row = packed_row(row0, r, lane, rows);
        let head = kv_head * params.group + row % params.group;
        let at = query_head + row / params.group * params.q_token + head * params.q_head;
        begin_row(r, at);
    }
    var maximum: Rows;
    var denominator: Rows;
    for (var r = 0u; r < LANE_ROWS; r++) {
        maximum[r] = MASKED;
    }

    for (var start = first_tile; start < end; start += TILE) {
        let tile = Tile(key_row(stored, start), value_row(stored, start), min(TILE, end - start) - 1u);
        score_tile(tile, lane);
        var lowest = 1.0;
        for (var r = 0u; r < LANE_ROWS; r++) {
            let packed = packed_row(row0, r, lane, rows);
            let head = kv_head * params.group + packed % params.group;
            let row = Row(sequence, head, packed / params.group, past);
            // Mask, new maximum.
            var new_maximum = maximum[r];
            for (var j = 0u; j < TILE; j++) {
                let own_key = start + j;
                let score = modified_score(scores[r][j], row, own_key);
                // Also false for NaN, which is what a key may hold that a bias hides.
                let seen = own_key < end && visible(row, own_key) && in_window(row, own_key)
                    && score > MASKED * 0.5;
                scores[r][j] = select(MASKED, score, seen);
                new_maximum = max(new_maximum, scores[r][j]);
            }
            // Weights, and the factor for what came before. A score at MASKED is no key's: masked,
            // or hidden by a bias.
            rescale[r] = exp2(maximum[r] - new_maximum);
            maximum[r] = new_maximum;
            var sum = denominator[r] * rescale[r];
            for (var j = 0u; j < TILE; j++) {
                let weight = exp2(scores[r][j] - new_maximum);
                scores[r][j] = select(0.0, weight, scores[r][j] > MASKED * 0.5);
                sum = sum + scores[r][j];
                lowest = min(lowest, scores[r][j]);
            }
            denominator[r] = sum;
        }
        hidden = select(0xffffffffu, 0x7f800000u, subgroupMin(lowest) == 0.0);
        accumulate_tile(tile, lane);
    }

    for (var r = 0u; r < LANE_ROWS; r++) {
        let row = row0 + r * LANES + lane;
        if row < rows {
            let head = kv_head * params.group + row % params.group;
            let q = row / params.group;
            // The sink joins the denominator once, at the end.
            let new_maximum = max(maximum[r], sink(head));
            let factor = exp2(maximum[r] - new_maximum);
            let total = denominator[r] * factor
                + select(0.0, exp2(sink(head) - new_maximum), sink(head) > MASKED);
            // A row that saw no key has output 0.
            let inverse = select(0.0, factor / total, total > 0.0);
            let token = query_start + q;
            let at = sequence * params.o_batch + token * params.o_token + head * params.o_head;
            end_row(r, at, inverse);
            let lse = (new_maximum + log2(total)) * LN_2;
            let index = (sequence * params.max_queries + q) * params.query_heads + head;
            store_lse(index, select(MASKED, lse, total > 0.0));
        }
    }
}
