// Attention for few rows on cooperative matrices: f16 queries, keys and values, f32 sums.
//
// As `decode_span.wgsl`: one workgroup takes ROWS packed rows and one span of SPAN keys, and writes a partial state
// that `merge.wgsl` joins. Rows that a problem does not have cost nothing here, for a matrix has 16 in any case, and
// reading keys and values is what takes the time.
//
// A block of 16 rows has PARTS subgroups. Keys pass through workgroup memory, a tile at a time, and each subgroup takes
// 16 of the tile; its lanes keep the scores of the whole span, two lanes a row. Then the weights lie in workgroup
// memory as f16, the values pass through it, and each subgroup takes its own columns of the output.
//
// The invariance contract: spans, tiles and matrices are cut at absolute key positions, a row of a matrix product
// depends on no other row, and a masked key adds 0.
//
// Matrix operations must be in uniform control flow: every branch around one is on workgroup memory.

const SUBGROUP: u32 = 32u;
const PARTS: u32 = TILE_KEYS / 16u;
const TILES: u32 = SPAN / TILE_KEYS;
const K_MATRICES: u32 = K_QUADS / 4u;
const V_MATRICES: u32 = V_QUADS / 4u;
const OWN_COLUMNS: u32 = (V_MATRICES + PARTS - 1u) / PARTS; // matrices of output sums of a subgroup
const K_TILE: u32 = TILE_KEYS * K_QUADS; // quads of a tile
const V_TILE: u32 = TILE_KEYS * V_QUADS;
// Loads of an invocation for a tile. Where they are too many, the last quad is loaded again.
const K_LOADS: u32 = (K_TILE + WORKGROUP_X - 1u) / WORKGROUP_X;
const V_LOADS: u32 = (V_TILE + WORKGROUP_X - 1u) / WORKGROUP_X;
const Q_LOADS: u32 = (ROWS * K_QUADS + WORKGROUP_X - 1u) / WORKGROUP_X;
// Strides in quads, as in `prefill_cooperative.wgsl`: rows stay aligned and start in different banks.
const K_STRIDE: u32 = K_QUADS + 2u;
const V_STRIDE: u32 = V_QUADS + 2u;
const S_STRIDE: u32 = 5u;
const P_STRIDE: u32 = SPAN / 4u + 2u;
// A partial state: the quads of the output sum, then (maximum, denominator, 0, 0).
const STATE_QUADS: u32 = V_QUADS + 1u;

@group(0) @binding(2) var<storage, read> query: array<vec4<f16>>;
@group(0) @binding(3) var<storage, read> key: array<vec4<f16>>;
@group(0) @binding(4) var<storage, read> value: array<vec4<f16>>;
@group(0) @binding(5) var<storage, read_write> partials: array<vec4<f32>>; // [row, span, STATE_QUADS]

var<workgroup> staged: array<vec4<f16>, TILE_KEYS * (max(K_QUADS, V_QUADS) + 2u)>; // queries, keys, values
var<workgroup> weights: array<vec4<f16>, ROWS * P_STRIDE>; // [row, key]
var<workgroup> scores: array<vec4<f32>, WORKGROUP_X / SUBGROUP * 16u * S_STRIDE>; // [subgroup, row, key], then sums
var<workgroup> maxima: array<f32, ROWS * PARTS>; // [row, part]
var<workgroup> sums: array<f32, ROWS * PARTS>;
var<workgroup> busy: vec4<u32>; // x; a multiple of 16 bytes as the others, so that each starts at one whatever their order

// Where some row of the workgroup does not see a key of the tile, which may then hold anything,
// NaN and infinities become 0: a weight of 0 would not make them so.
fn finite(value: vec4<f16>, plain: bool) -> vec4<f16> {
    return select(vec4(0.0h), value, vec4(plain) | (abs(value) <= vec4(65504.0h)));
}

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
    let begin = group.y * SPAN;
    // Idle workgroups do nothing; none returns, for matrices want uniform control flow.
    if thread == 0u {
        busy = vec4(u32(row0 < rows && begin < keys));
    }
    workgroupBarrier(); // orders the flag before its reads
    if busy.x == 1u {
        let last_row = rows - 1u;
        let first_own = query_of(row0);
        let last_own = query_of(min(row0 + ROWS - 1u, last_row));
        let end = max(begin, min(begin + SPAN, visible_end(last_own, past, keys)));
        let last_key = max(end, 1u) - 1u;
        let stored = head_rows(sequence, kv_head, keys);
        // Of this many keys every row sees each, and no bias hides one.
        let whole = select(min(visible_to_all(first_own, past, keys), end), 0u, BIAS_HIDES != 0u);

        let subgroup = thread / SUBGROUP;
        let lane = thread % SUBGROUP;
        let part = subgroup % PARTS;
        let block = subgroup / PARTS * 16u; // the subgroup's first row
        let own_row = block + lane / 2u;
        let own_scores = (subgroup * 16u + lane / 2u) * S_STRIDE + lane % 2u * 2u;
        let packed = min(row0 + own_row, last_row);
        let row = Row(sequence, kv_head * params.group + packed % params.group, query_of(packed), past);

        let query_start = first_query(sequence, queries);
        for (var i = 0u; i < Q_LOADS; i++) { // unroll
            let at = min(i * WORKGROUP_X + thread, ROWS * K_QUADS - 1u);
            let of_row = min(row0 + at / K_QUADS, last_row);
            let head = kv_head * params.group + of_row % params.group;
            let from_row = sequence * params.q_batch + (query_start + query_of(of_row)) * params.q_token
                + head * params.q_head;
            staged[at / K_QUADS * K_STRIDE + at % K_QUADS] = query[from_row + at % K_QUADS];
        }
        var next: array<vec4<f16>, max(K_LOADS, V_LOADS)>;
        for (var i = 0u; i < K_LOADS; i++) { // unroll
            let at = min(i * WORKGROUP_X + thread, K_TILE - 1u);
            next[i] = key[key_row(stored, min(begin + at / K_QUADS, last_key)) + at % K_QUADS];
        }
        workgroupBarrier(); // orders the queries before their reads
        var q: array<coop_mat16x16<f16, A>, K_MATRICES>;
        for (var c = 0u; c < K_MATRICES; c++) { // unroll
            q[c] = coopLoadT<coop_mat16x16<f16, A>>(&staged[block * K_STRIDE + c * 4u], K_STRIDE);
        }

        var x: array<vec4<f32>, 2u * TILES>;
        for (var t = 0u; t < TILES; t++) { // unroll
            workgroupBarrier(); // orders the reads of what was staged before this tile
            for (var i = 0u; i < K_LOADS; i++) { // unroll
                let at = min(i * WORKGROUP_X + thread, K_TILE - 1u);
                staged[at / K_QUADS * K_STRIDE + at % K_QUADS] = next[i];
            }
            workgroupBarrier(); // orders this tile before its reads
            if t + 1u < TILES {
                for (var i = 0u; i < K_LOADS; i++) { // unroll
                    let at = min(i * WORKGROUP_X + thread, K_TILE - 1u);
                    let token = min(begin + (t + 1u) * TILE_KEYS + at / K_QUADS, last_key);
                    next[i] = key[key_row(stored, token) + at % K_QUADS];
                }
            } else {
                for (var i = 0u; i < V_LOADS; i++) { // unroll
                    let at = min(i * WORKGROUP_X + thread, V_TILE - 1u);
                    next[i] = value[value_row(stored, min(begin + at / V_QUADS, last_key)) + at % V_QUADS];
                }
            }
            var s = coop_mat16x16<f32, C>();
            for (var c = 0u; c < K_MATRICES; c++) { // unroll
                let k = coopLoad<coop_mat16x16<f16, B>>(&staged[part * 16u * K_STRIDE + c * 4u], K_STRIDE);
                s = coopMultiplyAdd(q[c], k, s);
            }
            coopStoreT(s, &scores[subgroup * 16u * S_STRIDE], S_STRIDE);
            workgroupBarrier(); // orders the scores before their reads
            for (var j = 0u; j < 2u; j++) { // unroll
                x[2u * t + j] = scores[own_scores + j] * params.scale;
            }
        }

        // Mask and maximum of the row.
        var top = vec4(MASKED);
        for (var t = 0u; t < TILES; t++) { // unroll
            let tile = begin + t * TILE_KEYS;
            let plain = tile + TILE_KEYS <= whole
                && in_every_window(tile, tile + TILE_KEYS - 1u, first_own, last_own, past);
            for (var j = 0u; j < 2u; j++) { // unroll
                for (var n = 0u; n < 4u; n++) { // unroll
                    let own_key = tile + part * 16u + (lane % 2u * 2u + j) * 4u + n;
                    let score = modified_score(x[2u * t + j][n], row, min(own_key, last_key));
                    x[2u * t + j][n] = score;
                    if !plain {
                        // The last is false for NaN, which is what a key may hold that a bias hides.
                        let seen = own_key < end && visible(row, own_key) && in_window(row, own_key)
                            && score > MASKED * 0.5;
                        x[2u * t + j][n] = select(MASKED, score, seen);
                    }
                }
                top = max(top, x[2u * t + j]);
            }
        }
        let lane_maximum = max(max(top.x, top.y), max(top.z, top.w));
        let part_maximum = max(lane_maximum, subgroupShuffleXor(lane_maximum, 1u));
        if lane % 2u == 0u {
            maxima[own_row * PARTS + part] = part_maximum;
        }
        workgroupBarrier(); // orders the maxima before their reads
        var maximum = MASKED;
        for (var i = 0u; i < PARTS; i++) { // unroll
            maximum = max(maximum, maxima[own_row * PARTS + i]);
        }
        // Weights.
        var sum = vec4(0.0);
        for (var t = 0u; t < TILES; t++) { // unroll
            for (var j = 0u; j < 2u; j++) { // unroll
                let score = x[2u * t + j];
                let weight = select(vec4(0.0), exp2(score - maximum), score > vec4(MASKED * 0.5));
                sum += weight;
                weights[own_row * P_STRIDE + t * TILE_KEYS / 4u + part * 4u + lane % 2u * 2u + j] = vec4<f16>(weight);
            }
        }
        let lane_sum = sum.x + sum.y + sum.z + sum.w;
        let part_sum = lane_sum + subgroupShuffleXor(lane_sum, 1u);
        if lane % 2u == 0u {
            sums[own_row * PARTS + part] = part_sum;
        }

        // Output.
        var o: array<coop_mat16x16<f32, C>, OWN_COLUMNS>;
        for (var t = 0u; t < TILES; t++) { // unroll
            let tile = begin + t * TILE_KEYS;
            let plain = tile + TILE_KEYS <= whole
                && in_every_window(tile, tile + TILE_KEYS - 1u, first_own, last_own, past);
            workgroupBarrier(); // orders the reads of what was staged before this tile
            for (var i = 0u; i < V_LOADS; i++) { // unroll
                let at = min(i * WORKGROUP_X + thread, V_TILE - 1u);
                staged[at / V_QUADS * V_STRIDE + at % V_QUADS] = finite(next[i], plain);
            }
            workgroupBarrier(); // orders this tile, and the weights, before their reads
            if t + 1u < TILES {
                for (var i = 0u; i < V_LOADS; i++) { // unroll
                    let at = min(i * WORKGROUP_X + thread, V_TILE - 1u);
                    let token = min(tile + TILE_KEYS + at / V_QUADS, last_key);
                    next[i] = value[value_row(stored, token) + at % V_QUADS];
                }
            }
            for (var j = 0u; j < PARTS; j++) { // unroll
                let p = coopLoadT<coop_mat16x16<f16, A>>(
                    &weights[block * P_STRIDE + t * TILE_KEYS / 4u + j * 4u], P_STRIDE);
                for (var c = 0u; c < OWN_COLUMNS; c++) { // unroll
                    // A subgroup that has fewer columns takes the last again and stores it nowhere.
                    let column = min(part + c * PARTS, V_MATRICES - 1u);
                    let v = coopLoadT<coop_mat16x16<f16, B>>(&staged[j * 16u * V_STRIDE + column * 4u], V_STRIDE);
                    o[c] = coopMultiplyAdd(p, v, o[c]);
                }
            }
        }

        let live = row0 + own_row < rows;
        let state = state_of(sequence, kv_head, packed, group.y) * STATE_QUADS;
        for (var c = 0u; c < OWN_COLUMNS; c++) { // unroll
            workgroupBarrier(); // orders the reads of the scores, or of the last matrix, before this one
            coopStoreT(o[c], &scores[subgroup * 16u * S_STRIDE], S_STRIDE);
            workgroupBarrier(); // orders the sums before their reads
            let column = part + c * PARTS;
            if live && column < V_MATRICES {
                for (var j = 0u; j < 2u; j++) { // unroll
                    partials[state + column * 4u + lane % 2u * 2u + j] = scores[own_scores + j];
                }
            }
        }
        if live && part == 0u && lane % 2u == 0u {
            var denominator = 0.0;
            for (var i = 0u; i < PARTS; i++) { // unroll
                denominator += sums[own_row * PARTS + i];
            }
            partials[state + V_QUADS] = vec4(maximum, denominator, 0.0, 0.0);
        }
    }
}

// The partial state of a row and span.
fn state_of(sequence: u32, kv_head: u32, row: u32, span: u32) -> u32 {
    let head = kv_head * params.group + row % params.group;
    let q = sequence * params.chunk + row / params.group;
    return (q * params.query_heads + head) * params.max_spans + span;
}
