// Attention for many rows on cooperative matrices: f16 queries, keys and values, f32 sums.
//
// One workgroup takes BLOCK_ROWS packed rows of one KV head (row = query * group + head of the
// group), SUBGROUP_ROWS in each of its subgroups, and loops over tiles of TILE_KEYS keys with the
// online softmax. Queries and output sums stay in the subgroup's matrices, 16 x 16 each. Nothing
// tells which invocation holds which element of a matrix, so the scores pass through workgroup
// memory, where two lanes take a row: maximum, weights, denominator; the weights come back as f16.
//
// Matrices can't be rescaled row by row either. So a row keeps the maximum `reference` against which its
// weights are taken until a score exceeds it by more than SLACK (in the base-2 domain; weights of up
// to 2^SLACK fit f16 and lose no precision). Only then the output sums of the workgroup pass through
// memory, each row times its own factor, which is 1 for the others: no row depends on another.
//
// Matrix operations must be in uniform control flow: every branch around one is on workgroup memory.

const SUBGROUP: u32 = 32u;
const SUBGROUP_ROWS: u32 = 16u;
const BLOCK_ROWS: u32 = WORKGROUP_X / SUBGROUP * SUBGROUP_ROWS;
const K_MATRICES: u32 = K_QUADS / 4u;
const V_MATRICES: u32 = V_QUADS / 4u;
const TILE_MATRICES: u32 = TILE_KEYS / 16u;
const K_TILE: u32 = TILE_KEYS * K_QUADS; // quads of a tile
const V_TILE: u32 = TILE_KEYS * V_QUADS;
// Loads of an invocation for a tile. Where they are too many, the last quad is loaded again.
const K_LOADS: u32 = (K_TILE + WORKGROUP_X - 1u) / WORKGROUP_X;
const V_LOADS: u32 = (V_TILE + WORKGROUP_X - 1u) / WORKGROUP_X;
const Q_LOADS: u32 = BLOCK_ROWS * 4u / WORKGROUP_X;
const OWN: u32 = TILE_KEYS / 8u;                        // quads of scores of a lane
// Strides in quads. Two quads more than a row needs: rows stay aligned to 16 bytes, as matrix loads
// want it, and start in different banks.
const Q_STRIDE: u32 = 6u;
const K_STRIDE: u32 = K_QUADS + 2u;
const V_STRIDE: u32 = V_QUADS + 2u;
const S_STRIDE: u32 = TILE_KEYS / 4u + 1u;
const P_STRIDE: u32 = TILE_KEYS / 4u + 2u;
const SLACK: f32 = 8.0;

@group(0) @binding(2) var<storage, read> query: array<vec4<f16>>;
@group(0) @binding(3) var<storage, read> key: array<vec4<f16>>;
@group(0) @binding(4) var<storage, read> value: array<vec4<f16>>;
@group(0) @binding(5) var<storage, read_write> output: array<StoredOutput>;

// Sizes are multiples of 16 bytes, so that each array starts at one whatever their order.
var<workgroup> key_tile: array<vec4<f16>, max(TILE_KEYS * K_STRIDE, BLOCK_ROWS * Q_STRIDE)>; // first the queries
var<workgroup> value_tile: array<vec4<f16>, TILE_KEYS * V_STRIDE>;
var<workgroup> scores: array<vec4<f32>, BLOCK_ROWS * S_STRIDE>; // [row, key], then output sums
var<workgroup> weights: array<vec4<f16>, BLOCK_ROWS * P_STRIDE>; // [row, key]
var<workgroup> rescaled: vec4<u32>; // x: tile that wants its sums rescaled, y: the last one done

// Where some row of the workgroup does not see a key of the tile, which may then hold anything,
// NaN and infinities become 0: a weight of 0 would not make them so.
fn finite(value: vec4<f16>, plain: bool) -> vec4<f16> {
    return select(vec4(0.0h), value, vec4(plain) | (abs(value) <= vec4(65504.0h)));
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let subgroup_row = thread / SUBGROUP * SUBGROUP_ROWS; // first row of the subgroup in the block
    let lane = thread % SUBGROUP;
    let own_row = subgroup_row + lane / 2u;
    let own_quad = lane % 2u * OWN;
    let sequence = group.z;
    let kv_head = params.first_kv_head + group.y;
    let past = past_of(sequence);
    let queries = min(lengths[sequence].queries, params.max_queries);
    let keys = min(past + lengths[sequence].queries, params.max_keys);
    let rows = queries * params.group;
    let row0 = group.x * BLOCK_ROWS;
    let last_row = max(rows, 1u) - 1u;
    let first_own = min(row0, last_row) / params.group;
    let last_own = min(row0 + BLOCK_ROWS - 1u, last_row) / params.group;
    // An idle workgroup runs no tile; it does not return, for barriers follow.
    let end = select(0u, visible_end(last_own, past, keys), row0 < rows);
    let last_key = max(end, 1u) - 1u;
    // Tiles before the window of every row are skipped.
    let first_tile = window_begin(first_own, past) / TILE_KEYS * TILE_KEYS;

    let query_start = first_query(sequence, queries);
    let query_head = sequence * params.q_batch + query_start * params.q_token;
    let stored = head_rows(sequence, kv_head, keys);
    let last_tile = last_key / TILE_KEYS * TILE_KEYS;
    let packed = min(row0 + own_row, last_row);
    let row = Row(sequence, kv_head * params.group + packed % params.group, packed / params.group, past);

    // Queries, 16 elements of the head at a time.
    var q: array<coop_mat16x16<f16, A>, K_MATRICES>;
    for (var c = 0u; c < K_MATRICES; c++) { // unroll
        workgroupBarrier(); // orders the reads of the last part before this one
        for (var i = 0u; i < Q_LOADS; i++) { // unroll
            let at = i * WORKGROUP_X + thread;
            let of_row = min(row0 + at / 4u, last_row);
            let head = kv_head * params.group + of_row % params.group;
            let from_row = query_head + of_row / params.group * params.q_token + head * params.q_head;
            key_tile[at / 4u * Q_STRIDE + at % 4u] = query[from_row + c * 4u + at % 4u];
        }
        workgroupBarrier(); // orders this part before its reads
        q[c] = coopLoadT<coop_mat16x16<f16, A>>(&key_tile[subgroup_row * Q_STRIDE], Q_STRIDE);
    }
    workgroupBarrier(); // orders the reads of the queries before the keys take their place

    var next_key: array<vec4<f16>, K_LOADS>;
    var next_value: array<vec4<f16>, V_LOADS>;
    let first = min(first_tile, last_tile);
    let first_keys = key_row(stored, first);
    let first_values = value_row(stored, first);
    for (var i = 0u; i < K_LOADS; i++) { // unroll
        let at = min(i * WORKGROUP_X + thread, K_TILE - 1u);
        let own = min(at / K_QUADS, last_key - first);
        key_tile[at / K_QUADS * K_STRIDE + at % K_QUADS] = key[first_keys + own * params.k_token + at % K_QUADS];
    }
    for (var i = 0u; i < V_LOADS; i++) { // unroll
        let at = min(i * WORKGROUP_X + thread, V_TILE - 1u);
        let own = min(at / V_QUADS, last_key - first);
        next_value[i] = value[first_values + own * params.v_token + at % V_QUADS];
    }
    if thread == 0u {
        rescaled = vec4(0u);
    }
    workgroupBarrier(); // orders the first keys and the flags before their reads

    var o: array<coop_mat16x16<f32, C>, V_MATRICES>;
    var reference = MASKED;
    var denominator = 0.0; // of the lane's own keys
    var wanted = 0u;
    for (var tile = first_tile; tile < end; tile += TILE_KEYS) {
        // The next tile, where there is one, whose keys and values are loaded while this one is used.
        let next = min(tile + TILE_KEYS, last_tile);
        let next_last = last_key - next;
        if thread == 0u {
            rescaled.y = wanted;
        }
        // A tile that every row sees whole needs no mask.
        let plain = BIAS_HIDES == 0u
            && tile + TILE_KEYS <= min(visible_to_all(first_own, past, keys), end)
            && in_every_window(tile, tile + TILE_KEYS - 1u, first_own, last_own, past);
        for (var i = 0u; i < V_LOADS; i++) { // unroll
            let at = min(i * WORKGROUP_X + thread, V_TILE - 1u);
            value_tile[at / V_QUADS * V_STRIDE + at % V_QUADS] = finite(next_value[i], plain);
        }
        let next_keys = key_row(stored, next);
        for (var i = 0u; i < K_LOADS; i++) { // unroll
            let at = min(i * WORKGROUP_X + thread, K_TILE - 1u);
            let own = min(at / K_QUADS, next_last);
            next_key[i] = key[next_keys + own * params.k_token + at % K_QUADS];
        }
        // Scores.
        for (var j = 0u; j < TILE_MATRICES; j++) { // unroll
            var s = coop_mat16x16<f32, C>();
            for (var c = 0u; c < K_MATRICES; c++) { // unroll
                let k = coopLoad<coop_mat16x16<f16, B>>(&key_tile[j * 16u * K_STRIDE + c * 4u], K_STRIDE);
                s = coopMultiplyAdd(q[c], k, s);
            }
            coopStoreT(s, &scores[subgroup_row * S_STRIDE + j * 4u], S_STRIDE);
        }
        workgroupBarrier(); // orders the scores before their reads
        // Mask and maximum of the row.
        var x: array<vec4<f32>, OWN>;
        var top = vec4(MASKED);
        for (var j = 0u; j < OWN; j++) { // unroll
            let raw = scores[own_row * S_STRIDE + own_quad + j] * params.scale;
            for (var n = 0u; n < 4u; n++) { // unroll
                let own_key = tile + (own_quad + j) * 4u + n;
                x[j][n] = modified_score(raw[n], row, min(own_key, last_key));
                if !plain {
                    // The last is false for NaN, which is what a key may hold that a bias hides.
                    let seen = own_key < end && visible(row, own_key) && in_window(row, own_key)
                        && x[j][n] > MASKED * 0.5;
                    x[j][n] = select(MASKED, x[j][n], seen);
                }
            }
            top = max(top, x[j]);
        }
        let lane_maximum = max(max(top.x, top.y), max(top.z, top.w));
        let tile_maximum = max(lane_maximum, subgroupShuffleXor(lane_maximum, 1u));
        let before = reference;
        if tile_maximum > reference + SLACK {
            if reference > MASKED {
                rescaled.x = tile + 1u; // every writer writes the same
            }
            reference = tile_maximum;
        }
        // Weights.
        let rescale = exp2(before - reference);
        denominator = denominator * rescale;
        var sum = vec4(0.0);
        for (var j = 0u; j < OWN; j++) { // unroll
            // A score at MASKED is no key's: masked, or hidden by a bias.
            let weight = select(vec4(0.0), exp2(x[j] - reference), x[j] > vec4(MASKED * 0.5));
            sum += weight;
            weights[own_row * P_STRIDE + own_quad + j] = vec4<f16>(weight);
        }
        denominator += sum.x + sum.y + sum.z + sum.w;
        // Orders the weights, the values and the flag before their reads, and the reads of the keys
        // before the next ones take their place.
        workgroupBarrier();
        wanted = rescaled.x;
        if rescaled.x != rescaled.y {
            for (var c = 0u; c < V_MATRICES; c++) { // unroll
                workgroupBarrier(); // orders the reads of the last matrices before these
                coopStoreT(o[c], &scores[subgroup_row * S_STRIDE], S_STRIDE);
                workgroupBarrier(); // orders the sums before their rescaling
                for (var j = 0u; j < 2u; j++) { // unroll
                    let at = own_row * S_STRIDE + lane % 2u * 2u + j;
                    scores[at] = scores[at] * rescale;
                }
                workgroupBarrier(); // orders the rescaled sums before their reads
                o[c] = coopLoadT<coop_mat16x16<f32, C>>(&scores[subgroup_row * S_STRIDE], S_STRIDE);
            }
        }
        let next_values = value_row(stored, next);
        for (var i = 0u; i < V_LOADS; i++) { // unroll
            let at = min(i * WORKGROUP_X + thread, V_TILE - 1u);
            let own = min(at / V_QUADS, next_last);
            next_value[i] = value[next_values + own * params.v_token + at % V_QUADS];
        }
        // Output.
        for (var j = 0u; j < TILE_MATRICES; j++) { // unroll
            let p = coopLoadT<coop_mat16x16<f16, A>>(&weights[subgroup_row * P_STRIDE + j * 4u], P_STRIDE);
            for (var c = 0u; c < V_MATRICES; c++) { // unroll
                let v = coopLoadT<coop_mat16x16<f16, B>>(&value_tile[j * 16u * V_STRIDE + c * 4u], V_STRIDE);
                o[c] = coopMultiplyAdd(p, v, o[c]);
            }
        }
        for (var i = 0u; i < K_LOADS; i++) { // unroll
            let at = min(i * WORKGROUP_X + thread, K_TILE - 1u);
            key_tile[at / K_QUADS * K_STRIDE + at % K_QUADS] = next_key[i];
        }
        // Orders the next keys before their reads, and the reads of values and flag before the next
        // ones take their place.
        workgroupBarrier();
    }

    // The sink joins the denominator once, at the end.
    let all = denominator + subgroupShuffleXor(denominator, 1u);
    let new_maximum = max(reference, sink(row.head));
    let rescale = exp2(reference - new_maximum);
    let total = all * rescale
        + select(0.0, exp2(sink(row.head) - new_maximum), sink(row.head) > MASKED);
    // A row that saw no key has output 0.
    let inverse = select(0.0, rescale / total, total > 0.0);
    let at_row = sequence * params.o_batch + (query_start + row.query) * params.o_token + row.head * params.o_head;
    for (var c = 0u; c < V_MATRICES; c++) { // unroll
        workgroupBarrier(); // orders the reads of the last matrices before these
        coopStoreT(o[c], &scores[subgroup_row * S_STRIDE], S_STRIDE);
        workgroupBarrier(); // orders the sums before their reads
        if row0 + own_row < rows {
            for (var j = 0u; j < 2u; j++) { // unroll
                let quad = lane % 2u * 2u + j;
                output[at_row + c * 4u + quad] = stored_output(scores[own_row * S_STRIDE + quad] * inverse);
            }
        }
    }
    if row0 + own_row < rows && lane % 2u == 0u {
        let lse = (new_maximum + log2(total)) * LN_2;
        let index = (sequence * params.max_queries + row.query) * params.query_heads + row.head;
        store_lse(index, select(MASKED, lse, total > 0.0));
    }
}
