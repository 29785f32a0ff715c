// Attention for many rows: reading a prompt.
//
// One workgroup takes BLOCK_ROWS packed rows of one KV head (row = query * group + head of the
// group) and loops over tiles of TILE_KEYS keys with the online softmax (Milakov and Gimelshein
// 2018; FlashAttention, Dao et al. 2022): scores of the tile, new maximum, rescaling of what came
// before, accumulation. Scores never leave the workgroup.
//
// THREADS_X x THREADS_Y invocations: (x, y) holds the scores of ROWS rows from y * ROWS on and of
// KEYS keys x, x + THREADS_X, ..., and of those rows the output quads x, x + THREADS_X, ... The
// head is staged in chunks of CHUNK quads, so that every head size fits 16 KiB.

const ROWS: u32 = BLOCK_ROWS / THREADS_Y;
const KEYS: u32 = TILE_KEYS / THREADS_X;
const K_CHUNKS: u32 = (K_QUADS + CHUNK - 1u) / CHUNK;
const V_CHUNKS: u32 = (V_QUADS + CHUNK - 1u) / CHUNK;
const THREADS: u32 = THREADS_X * THREADS_Y;
// One quad more than a row needs: neighbouring rows start in different banks.
const STAGE: u32 = CHUNK + 1u;
const SCORES: u32 = TILE_KEYS + 1u;

alias Rows = array<f32, ROWS>;

@group(0) @binding(2) var<storage, read> query: array<StoredQuery>;
@group(0) @binding(3) var<storage, read> key: array<StoredKey>;
@group(0) @binding(4) var<storage, read> value: array<StoredValue>;
@group(0) @binding(5) var<storage, read_write> output: array<StoredOutput>;

var<workgroup> query_chunk: array<vec4<f32>, BLOCK_ROWS * STAGE>;
var<workgroup> kv_chunk: array<vec4<f32>, TILE_KEYS * STAGE>; // keys, then values
var<workgroup> scores: array<f32, BLOCK_ROWS * SCORES>;       // scores, then weights

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let sequence = group.z;
    let kv_head = group.y;
    let past = lengths[sequence].past;
    let queries = min(lengths[sequence].queries, params.max_queries);
    let keys = min(past + lengths[sequence].queries, params.max_keys);
    let rows = queries * params.group;
    let row0 = group.x * BLOCK_ROWS;
    let last_row = max(rows, 1u) - 1u;
    let last_query = min(row0 + BLOCK_ROWS - 1u, last_row) / params.group;
    // An idle workgroup runs no tile; it does not return, for barriers follow.
    let end = select(0u, visible_end(last_query, past, keys), row0 < rows);

    let starts = vec2(first_query(sequence, queries), first_key(sequence, keys));
    let query_head = sequence * params.q_batch + starts.x * params.q_token;
    let key_head = sequence * params.k_batch + starts.y * params.k_token + kv_head * params.k_head;
    let value_head = sequence * params.v_batch + starts.y * params.v_token + kv_head * params.v_head;
    // Tiles before the window of every row are skipped.
    let first_tile = window_begin(row0 / params.group, past) / TILE_KEYS * TILE_KEYS;

    var accumulator: array<array<vec4<f32>, ROWS>, V_CHUNKS>;
    var maximum: Rows;
    var denominator: Rows;
    for (var r = 0u; r < ROWS; r++) {
        maximum[r] = MASKED;
    }

    for (var tile = first_tile; tile < end; tile += TILE_KEYS) {
        // Scores.
        var s: array<array<f32, KEYS>, ROWS>;
        for (var chunk = 0u; chunk < K_CHUNKS; chunk++) {
            workgroupBarrier(); // orders the reads of the chunks before they are overwritten
            for (var i = thread; i < BLOCK_ROWS * CHUNK; i += THREADS) {
                let quad = chunk * CHUNK + i % CHUNK;
                let row = min(row0 + i / CHUNK, last_row);
                let head = kv_head * params.group + row % params.group;
                let at = query_head + (row / params.group) * params.q_token + head * params.q_head;
                let q = query_quad(query[at + min(quad, K_QUADS - 1u)]) * params.scale;
                query_chunk[i / CHUNK * STAGE + i % CHUNK] = select(vec4(0.0), q, quad < K_QUADS);
            }
            for (var i = thread; i < TILE_KEYS * CHUNK; i += THREADS) {
                // Past the head the query is zero; past the end the last key is read again.
                let quad = min(chunk * CHUNK + i % CHUNK, K_QUADS - 1u);
                let at = key_head + min(tile + i / CHUNK, end - 1u) * params.k_token + quad;
                kv_chunk[i / CHUNK * STAGE + i % CHUNK] = key_quad(key[at]);
            }
            workgroupBarrier(); // orders the chunks before their reads
            for (var q = 0u; q < CHUNK; q++) {
                var k: array<vec4<f32>, KEYS>;
                for (var j = 0u; j < KEYS; j++) {
                    k[j] = kv_chunk[(j * THREADS_X + local.x) * STAGE + q];
                }
                for (var r = 0u; r < ROWS; r++) {
                    let a = query_chunk[(local.y * ROWS + r) * STAGE + q];
                    for (var j = 0u; j < KEYS; j++) {
                        s[r][j] = fma_quad(a, k[j], s[r][j]);
                    }
                }
            }
        }
        // Mask, and the scores where the whole row can see them.
        var seen: array<array<bool, KEYS>, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            let own_row = local.y * ROWS + r;
            let packed = min(row0 + own_row, last_row);
            let head = kv_head * params.group + packed % params.group;
            let row = Row(sequence, head, packed / params.group, past);
            for (var j = 0u; j < KEYS; j++) {
                let own_key = tile + j * THREADS_X + local.x;
                let score = modified_score(s[r][j], row, own_key);
                // A score at MASKED comes from a bias that hides the key.
                seen[r][j] = own_key < end && visible(row, own_key) && in_window(row, own_key)
                    && score > MASKED * 0.5;
                s[r][j] = select(MASKED, score, seen[r][j]);
                scores[own_row * SCORES + j * THREADS_X + local.x] = s[r][j];
            }
        }
        workgroupBarrier(); // orders the scores before the maximum over them
        // New maximum and rescaling.
        for (var r = 0u; r < ROWS; r++) {
            var new_maximum = maximum[r];
            for (var j = 0u; j < TILE_KEYS; j++) {
                new_maximum = max(new_maximum, scores[(local.y * ROWS + r) * SCORES + j]);
            }
            let rescale = exp2(maximum[r] - new_maximum);
            maximum[r] = new_maximum;
            denominator[r] = denominator[r] * rescale;
            for (var chunk = 0u; chunk < V_CHUNKS; chunk++) {
                accumulator[chunk][r] = accumulator[chunk][r] * rescale;
            }
        }
        workgroupBarrier(); // orders the reads of the scores before the weights take their place
        for (var r = 0u; r < ROWS; r++) {
            for (var j = 0u; j < KEYS; j++) {
                let weight = select(0.0, exp2(s[r][j] - maximum[r]), seen[r][j]);
                scores[(local.y * ROWS + r) * SCORES + j * THREADS_X + local.x] = weight;
            }
        }
        // Denominator and output.
        for (var chunk = 0u; chunk < V_CHUNKS; chunk++) {
            workgroupBarrier(); // orders the weights, and the reads of the chunk, before the writes
            for (var i = thread; i < TILE_KEYS * CHUNK; i += THREADS) {
                let quad = min(chunk * CHUNK + i % CHUNK, V_QUADS - 1u);
                let at = value_head + min(tile + i / CHUNK, end - 1u) * params.v_token + quad;
                kv_chunk[i / CHUNK * STAGE + i % CHUNK] = value_quad(value[at]);
            }
            workgroupBarrier(); // orders the chunk before its reads
            for (var j = 0u; j < TILE_KEYS; j++) {
                let v = kv_chunk[j * STAGE + local.x];
                for (var r = 0u; r < ROWS; r++) {
                    let weight = scores[(local.y * ROWS + r) * SCORES + j];
                    // A masked key may hold anything, also NaN, and other rows may see it.
                    let seen = select(vec4(0.0), v, weight > 0.0);
                    accumulator[chunk][r] = fma(vec4(weight), seen, accumulator[chunk][r]);
                    if chunk == 0u {
                        denominator[r] = denominator[r] + weight;
                    }
                }
            }
        }
    }

    for (var r = 0u; r < ROWS; r++) {
        let row = row0 + local.y * ROWS + r;
        if row < rows {
            let head = kv_head * params.group + row % params.group;
            let q = row / params.group;
            // The sink joins the denominator once, at the end.
            let new_maximum = max(maximum[r], sink(head));
            let rescale = exp2(maximum[r] - new_maximum);
            let total = denominator[r] * rescale
                + select(0.0, exp2(sink(head) - new_maximum), sink(head) > MASKED);
            // A row that saw no key has output 0.
            let inverse = select(0.0, rescale / total, total > 0.0);
            let token = starts.x + q;
            let at = sequence * params.o_batch + token * params.o_token + head * params.o_head;
            for (var chunk = 0u; chunk < V_CHUNKS; chunk++) {
                let quad = chunk * CHUNK + local.x;
                if quad < V_QUADS {
                    output[at + quad] = stored_output(accumulator[chunk][r] * inverse);
                }
            }
            if local.x == 0u {
                let lse = (new_maximum + log2(total)) * LN_2;
                let index = (sequence * params.max_queries + q) * params.query_heads + head;
                store_lse(index, select(MASKED, lse, total > 0.0));
            }
        }
    }
}
