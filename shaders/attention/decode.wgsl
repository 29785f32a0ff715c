// Attention for few rows: decoding a token, or verifying the nodes of a draft.
//
// A row is one query of one query head; the rows of a KV head are packed, row = query * group +
// head of the group, so that every key and value that is read serves all of them. One workgroup
// takes ROWS rows and one span of SPAN keys and writes a partial state: output sum, maximum m,
// denominator l. `merge.wgsl` joins the spans in ascending order.
//
// The invariance contract: spans and tiles are cut at absolute key positions, and what happens to
// a row, in which order, depends on nothing but its own keys. A tile that is masked for a row
// multiplies its state by exp2(0) = 1 and adds 0. So a drafted token is checked with the bits that
// decoding it would have given.
//
// Inside a span: LANES keys a tile. Scores: invocation = key of the tile. Output: invocation =
// quads of the value. A lanes_*.wgsl file says how invocations see each other's numbers.

const K_PARTS: u32 = (K_QUADS + LANES - 1u) / LANES; // query quads held by one invocation
const V_PARTS: u32 = (V_QUADS + LANES - 1u) / LANES; // value quads held by one invocation
// A partial state: the quads of the output sum, then (maximum, denominator, 0, 0).
const STATE_QUADS: u32 = V_QUADS + 1u;

alias Rows = array<f32, ROWS>;

@group(0) @binding(2) var<storage, read> query: array<StoredQuery>;
@group(0) @binding(3) var<storage, read> key: array<StoredKey>;
@group(0) @binding(4) var<storage, read> value: array<StoredValue>;
@group(0) @binding(5) var<storage, read_write> partials: array<vec4<f32>>; // [row, span, STATE_QUADS]

var<private> accumulator: array<array<vec4<f32>, V_PARTS>, ROWS>;

// Adds quad `part * LANES + j` of query times key to the scores of all rows.
fn score_quad(part: u32, j: u32, key_base: u32, scores: ptr<function, Rows>) {
    // Query quads past the head are zero; their key quads are read again from the last one.
    let k = key_at(key_base, min(part * LANES + j, K_QUADS - 1u));
    for (var r = 0u; r < ROWS; r++) {
        (*scores)[r] = fma_quad(query_part(r, part, j), k, (*scores)[r]);
    }
}

// Adds weight times value of key `j` of the tile to the output of all rows.
fn accumulate_key(j: u32, lane: u32, value_base: u32) {
    for (var part = 0u; part < V_PARTS; part++) {
        let quad = min(part * LANES + lane, V_QUADS - 1u);
        let v = value_at(value_base, quad);
        for (var r = 0u; r < ROWS; r++) {
            let weight = weight_of(r, j);
            // A masked key may hold anything, also NaN, and other rows may see it.
            let seen = select(vec4(0.0), v, weight > 0.0);
            accumulator[r][part] = fma(vec4(weight), seen, accumulator[r][part]);
        }
    }
}

// Query of a row of the chunk.
fn query_of(row: u32) -> u32 {
    return params.chunk_start + row / params.group;
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
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
    let last_row = min(row0 + ROWS, max(rows, 1u)) - 1u;

    // An idle workgroup runs no tile and stores nothing; it does not return, for barriers follow.
    let begin = group.y * SPAN;
    let seen = min(begin + SPAN, visible_end(query_of(last_row), past, keys));
    let end = select(begin, seen, row0 < rows && seen > begin);
    // Tiles before the window of every row are masked for all of them: skipping changes no bit.
    let window = max(begin, window_begin(query_of(row0), past));
    let first_tile = begin + (window - begin) / LANES * LANES;

    for (var part = 0u; part < K_PARTS; part++) {
        let quad = part * LANES + lane;
        for (var r = 0u; r < ROWS; r++) {
            let row = min(row0 + r, max(rows, 1u) - 1u);
            let head = kv_head * params.group + row % params.group;
            let token = min(first_query(sequence, queries) + query_of(row), params.total_queries - 1u);
            let at = sequence * params.q_batch + token * params.q_token
                + head * params.q_head + min(quad, K_QUADS - 1u);
            let q = query_quad(query[at]) * params.scale;
            hold_query(r, part, lane, select(vec4(0.0), q, quad < K_QUADS));
        }
    }
    publish_queries();

    var maximum: Rows;
    var denominator: Rows;
    for (var r = 0u; r < ROWS; r++) {
        maximum[r] = MASKED;
        for (var part = 0u; part < V_PARTS; part++) {
            accumulator[r][part] = vec4(0.0);
        }
    }
    let stored = head_rows(sequence, kv_head, keys);

    for (var tile = first_tile; tile < end; tile += LANES) {
        // Scores of this invocation's key, and what the mask leaves of them.
        let own_key = tile + lane;
        let own = min(lane, end - 1u - tile);
        var scores = score_tile(key_row(stored, tile) + own * params.k_token);
        var seen_key: array<bool, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            let packed = min(row0 + r, rows - 1u);
            let head = kv_head * params.group + packed % params.group;
            let row = Row(sequence, head, query_of(packed), past);
            let score = modified_score(scores[r], row, own_key);
            // A score at MASKED comes from a bias that hides the key.
            seen_key[r] = own_key < end && visible(row, own_key) && in_window(row, own_key)
                && score > MASKED * 0.5;
            scores[r] = select(MASKED, score, seen_key[r]);
        }
        // New maximum, rescaling of what came before, weights.
        let tile_maximum = rows_maximum(lane, scores);
        var weights: Rows;
        var rescales: Rows;
        for (var r = 0u; r < ROWS; r++) {
            let new_maximum = max(maximum[r], tile_maximum[r]);
            let rescale = exp2(maximum[r] - new_maximum);
            maximum[r] = new_maximum;
            weights[r] = select(0.0, exp2(scores[r] - new_maximum), seen_key[r]);
            rescales[r] = rescale;
            for (var part = 0u; part < V_PARTS; part++) {
                accumulator[r][part] = accumulator[r][part] * rescale;
            }
        }
        publish_weights(lane, weights);
        let tile_sum = rows_sum(weights);
        for (var r = 0u; r < ROWS; r++) {
            // One operation, spelled out: a compiler that fuses in one variant and not in another
            // would break the contract.
            denominator[r] = fma(denominator[r], rescales[r], tile_sum[r]);
        }
        accumulate_tile(end - 1u - tile, lane, value_row(stored, tile));
    }

    if begin < keys {
        for (var r = 0u; r < ROWS; r++) {
            let row = row0 + r;
            if row < rows {
                let head = kv_head * params.group + row % params.group;
                let q = sequence * params.chunk + row / params.group;
                let state = (q * params.query_heads + head) * params.max_spans + group.y;
                for (var part = 0u; part < V_PARTS; part++) {
                    let quad = part * LANES + lane;
                    if quad < V_QUADS {
                        partials[state * STATE_QUADS + quad] = accumulator[r][part];
                    }
                }
                if lane == 0u {
                    partials[state * STATE_QUADS + V_QUADS] =
                        vec4(maximum[r], denominator[r], 0.0, 0.0);
                }
            }
        }
    }
}
