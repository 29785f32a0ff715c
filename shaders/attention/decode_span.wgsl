// Attention for few rows on a GPU: decoding a token, or verifying the nodes of a draft.
//
// A row is one query of one query head; the rows of a KV head are packed, row = query * group +
// head of the group, so that every key and value that is read serves all of them. One workgroup
// takes ROWS rows and one span of SPAN keys, a key for each invocation, and writes a partial state:
// output sum, maximum m, denominator l. `merge.wgsl` joins the spans in ascending order.
//
// All keys of the span are in flight at once, which is what a GPU needs to reach its memory's speed
// with few workgroups. Scores: invocation = key. Output: invocation = (slice of keys, quad of the
// value), so that neighbours read neighbouring quads; the slices are added in ascending order.
//
// The invariance contract: spans and slices are cut at absolute key positions, and what happens to
// a row, in which order, depends on nothing but its own keys: a masked key adds 0. So a drafted token
// is checked with the bits that decoding it would have given.

const SLICES: u32 = SPAN / V_QUADS;
const SLICE_KEYS: u32 = (SPAN + SLICES - 1u) / SLICES;
// Reductions over a row's keys: 32 invocations a row read 8 numbers each, then 4 of them 8 each.
const LANES: u32 = 32u;
// A partial state: the quads of the output sum, then (maximum, denominator, 0, 0).
const STATE_QUADS: u32 = V_QUADS + 1u;
// First the queries [row, quad], then reductions, then two rows of output sums [slice, quad].
const SCRATCH: u32 = max(ROWS * K_QUADS, 2u * SPAN);

@group(0) @binding(2) var<storage, read> query: array<StoredQuery>;
@group(0) @binding(3) var<storage, read> key: array<StoredKey>;
@group(0) @binding(4) var<storage, read> value: array<StoredValue>;
@group(0) @binding(5) var<storage, read_write> partials: array<vec4<f32>>; // [row, span, STATE_QUADS]

var<workgroup> scratch: array<vec4<f32>, SCRATCH>;
var<workgroup> staged: array<f32, ROWS * SPAN>; // [row, key]: scores, then weights

// Query of a row of the chunk.
fn query_of(row: u32) -> u32 {
    return params.chunk_start + row / params.group;
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let sequence = group.z / params.kv_heads;
    let kv_head = params.first_kv_head + group.z % params.kv_heads;
    let past = past_of(sequence);
    let queries = min(lengths[sequence].queries, params.max_queries);
    let keys = min(past + lengths[sequence].queries, params.max_keys);
    // Rows count from the chunk's first query.
    let chunk = min(max(queries, params.chunk_start) - params.chunk_start, params.chunk);
    let rows = chunk * params.group;
    let row0 = group.x * ROWS;
    let last_row = max(rows, 1u) - 1u;

    // An idle workgroup sees no key and stores nothing; it does not return, for barriers follow.
    let begin = group.y * SPAN;
    let seen_end = min(begin + SPAN, visible_end(query_of(min(row0 + ROWS - 1u, last_row)), past, keys));
    let end = select(begin, seen_end, row0 < rows && seen_end > begin);
    let last_key = min(max(end, 1u), max(keys, 1u)) - 1u; // of an idle one: a key that there is

    for (var i = thread; i < ROWS * K_QUADS; i += SPAN) {
        let row = min(row0 + i / K_QUADS, last_row);
        let head = kv_head * params.group + row % params.group;
        let token = min(first_query(sequence, queries) + query_of(row), params.total_queries - 1u);
        let at = sequence * params.q_batch + token * params.q_token + head * params.q_head;
        scratch[i] = query_quad(query[at + i % K_QUADS]) * params.scale;
    }
    workgroupBarrier(); // orders the queries before their reads

    let stored = head_rows(sequence, kv_head, keys);

    // Scores of this invocation's key, and what the mask leaves of them.
    let own_key = begin + thread;
    let own_row = key_row(stored, min(own_key, last_key));
    var s: array<f32, ROWS>;
    for (var quad = 0u; quad < K_QUADS; quad += K_STEP) {
        var k: array<vec4<f32>, K_STEP>;
        for (var i = 0u; i < K_STEP; i++) { // unroll
            k[i] = key_at(own_row, quad + i);
        }
        for (var i = 0u; i < K_STEP; i++) { // unroll
            for (var r = 0u; r < ROWS; r++) { // unroll
                s[r] = fma_quad(scratch[r * K_QUADS + quad + i], k[i], s[r]);
            }
        }
    }
    for (var r = 0u; r < ROWS; r++) { // unroll
        let packed = min(row0 + r, last_row);
        let head = kv_head * params.group + packed % params.group;
        let row = Row(sequence, head, query_of(packed), past);
        let score = modified_score(s[r], row, min(own_key, last_key));
        // A score at MASKED comes from a bias that hides the key; NaN is what such a key may hold.
        let seen = own_key < end && visible(row, own_key) && in_window(row, own_key)
            && score > MASKED * 0.5;
        s[r] = select(MASKED, score, seen);
        staged[r * SPAN + thread] = s[r];
    }
    workgroupBarrier(); // orders the scores, and the reads of the queries, before the maxima

    let lane = thread % LANES;
    let lane_row = thread / LANES;
    if lane_row < ROWS {
        var most = MASKED;
        for (var i = 0u; i < SPAN / LANES; i++) { // unroll
            most = max(most, staged[lane_row * SPAN + i * LANES + lane]);
        }
        scratch[thread] = vec4(most);
    }
    workgroupBarrier(); // orders the first step before the second
    if lane_row < ROWS && lane < 4u {
        var most = MASKED;
        for (var i = 0u; i < LANES / 4u; i++) { // unroll
            most = max(most, scratch[lane_row * LANES + i * 4u + lane].x);
        }
        scratch[SPAN + lane_row * 4u + lane] = vec4(most);
    }
    workgroupBarrier(); // orders the second step before its reads
    var maximum: array<f32, ROWS>;
    for (var r = 0u; r < ROWS; r++) { // unroll
        let a = max(scratch[SPAN + r * 4u].x, scratch[SPAN + r * 4u + 1u].x);
        let b = max(scratch[SPAN + r * 4u + 2u].x, scratch[SPAN + r * 4u + 3u].x);
        maximum[r] = max(a, b);
        staged[r * SPAN + thread] =
            select(0.0, exp2(s[r] - maximum[r]), s[r] > MASKED * 0.5);
    }
    workgroupBarrier(); // orders the weights, and the reads of the maxima, before the sums

    if lane_row < ROWS {
        var sum = 0.0;
        for (var i = 0u; i < SPAN / LANES; i++) { // unroll
            sum += staged[lane_row * SPAN + i * LANES + lane];
        }
        scratch[thread] = vec4(sum);
    }
    workgroupBarrier(); // orders the first step before the second
    var denominator = 0.0;
    if lane_row < ROWS && lane == 0u {
        for (var i = 0u; i < LANES; i++) { // unroll
            denominator += scratch[lane_row * LANES + i].x;
        }
    }

    // Output of this invocation's quad over its slice of keys.
    let slice = thread / V_QUADS;
    let own_quad = thread % V_QUADS;
    var o: array<vec4<f32>, ROWS>;
    if slice < SLICES {
        let slice_end = min(min((slice + 1u) * SLICE_KEYS, SPAN), end - begin);
        for (var j = slice * SLICE_KEYS; j < slice_end; j += V_STEP) {
            var v: array<vec4<f32>, V_STEP>;
            for (var i = 0u; i < V_STEP; i++) { // unroll
                let token = begin + min(j + i, slice_end - 1u);
                v[i] = value_at(value_row(stored, token), own_quad);
            }
            for (var i = 0u; i < V_STEP; i++) { // unroll
                for (var r = 0u; r < ROWS; r++) { // unroll
                    let weight = select(0.0, staged[r * SPAN + min(j + i, SPAN - 1u)], j + i < slice_end);
                    // A masked key may hold anything, also NaN, and other rows may see it.
                    o[r] = fma(vec4(weight), select(vec4(0.0), v[i], weight > 0.0), o[r]);
                }
            }
        }
    }

    if begin < keys && row0 + lane_row < rows && lane_row < ROWS && lane == 0u {
        var own_maximum = maximum[0];
        for (var r = 1u; r < ROWS; r++) {
            own_maximum = select(own_maximum, maximum[r], lane_row == r);
        }
        let state = state_of(sequence, kv_head, row0 + lane_row, group.y);
        partials[state * STATE_QUADS + V_QUADS] = vec4(own_maximum, denominator, 0.0, 0.0);
    }
    for (var pair = 0u; pair < (ROWS + 1u) / 2u; pair++) { // unroll
        workgroupBarrier(); // orders the reads of what was in the scratch before these sums
        for (var i = 0u; i < 2u; i++) { // unroll
            scratch[i * SPAN + thread] = o[min(pair * 2u + i, ROWS - 1u)];
        }
        workgroupBarrier(); // orders the sums before their reads
        let r = pair * 2u + thread / V_QUADS;
        if thread < 2u * V_QUADS && r < ROWS && begin < keys && row0 + r < rows {
            var sum = vec4(0.0);
            for (var i = 0u; i < SLICES; i++) {
                sum += scratch[thread / V_QUADS * SPAN + i * V_QUADS + own_quad];
            }
            let state = state_of(sequence, kv_head, row0 + r, group.y);
            partials[state * STATE_QUADS + own_quad] = sum;
        }
    }
}

// The partial state of a row and span.
fn state_of(sequence: u32, kv_head: u32, row: u32, span: u32) -> u32 {
    let head = kv_head * params.group + row % params.group;
    let q = sequence * params.chunk + row / params.group;
    return (q * params.query_heads + head) * params.max_spans + span;
}
