// Attention for many rows: reading a prompt.
//
// One workgroup takes BLOCK_ROWS packed rows of one KV head (row = query * group + head of the
// group) and loops over tiles of TILE_KEYS keys with the online softmax (Milakov and Gimelshein
// 2018; FlashAttention, Dao et al. 2022): scores of the tile, new maximum, rescaling of what came
// before, accumulation. Scores never leave the workgroup.
//
// THREADS_X x THREADS_Y invocations: (x, y) holds the scores of the ROWS rows from y * ROWS on and of
// the KEYS keys x, x + THREADS_X, ..., and of those rows the output quads x, x + THREADS_X, ... All
// sums stay in its registers. What passes through workgroup memory are chunks of the queries and
// keys, in two buffers that alternate, and slices of the weights and values; the next chunk is
// loaded while this one is used. Each region of the memory is named where its phase begins.

const ROW_QUADS: u32 = BLOCK_ROWS / 4u;
const H: u32 = ROWS / 4u;                                   // quads of rows of an invocation
const THREADS: u32 = THREADS_X * THREADS_Y;
const K_CHUNKS: u32 = (K_QUADS + CHUNK - 1u) / CHUNK;
const STAGE: u32 = (BLOCK_ROWS + TILE_KEYS) * CHUNK;        // quads of a chunk of queries and keys
const Q_LOADS: u32 = BLOCK_ROWS * CHUNK / THREADS;          // loads of an invocation for it
const K_LOADS: u32 = TILE_KEYS * CHUNK / THREADS;
const V_OWN: u32 = (V_QUADS + THREADS_X - 1u) / THREADS_X;  // output quads of an invocation
const V_WIDTH: u32 = THREADS_X * V_STEP;                    // value quads staged at a time
const V_STEPS: u32 = (V_OWN + V_STEP - 1u) / V_STEP;
const V_LOADS: u32 = THREADS_X * V_WIDTH / THREADS;
const VALUES: u32 = THREADS_X * ROW_QUADS;                  // where the values start
const MEMORY: u32 = max(2u * STAGE, VALUES + THREADS_X * V_WIDTH);

@group(0) @binding(2) var<storage, read> query: array<StoredQuery>;
@group(0) @binding(3) var<storage, read> key: array<StoredKey>;
@group(0) @binding(4) var<storage, read> value: array<StoredValue>;
@group(0) @binding(5) var<storage, read_write> output: array<StoredOutput>;

var<workgroup> memory: array<vec4<f32>, MEMORY>;

// Where some row of the workgroup does not see a key of the tile, which may then hold anything,
// NaN and infinities become 0: a weight of 0 would not make them so.
fn finite(value: vec4<f32>, plain: bool) -> vec4<f32> {
    let exponent = bitcast<vec4<u32>>(value) & vec4(0x7f800000u);
    return select(value, vec4(0.0), exponent >= vec4(select(0x7f800000u, 0xffffffffu, plain)));
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let x = thread % THREADS_X;
    let y = thread / THREADS_X;
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
    // Tiles before the window of every row are skipped.
    let first_tile = window_begin(first_own, past) / TILE_KEYS * TILE_KEYS;

    let query_start = first_query(sequence, queries);
    let query_head = sequence * params.q_batch + query_start * params.q_token;
    let stored = head_rows(sequence, kv_head, keys);

    var query_at: array<u32, Q_LOADS>; // where the invocation loads its part of the queries
    for (var i = 0u; i < Q_LOADS; i++) { // unroll
        let row = min(row0 + (i * THREADS + thread) / CHUNK, last_row);
        let head = kv_head * params.group + row % params.group;
        query_at[i] = query_head + row / params.group * params.q_token + head * params.q_head;
    }
    var accumulator: array<array<vec4<f32>, V_OWN>, ROWS>;
    var maximum: array<f32, ROWS>;
    var denominator: array<f32, ROWS>; // of the invocation's own keys
    for (var r = 0u; r < ROWS; r++) { // unroll
        maximum[r] = MASKED;
    }

    for (var tile = first_tile; tile < end; tile += TILE_KEYS) {
        // Rows of the tile's first key and value, and its last key, counted from the first.
        let key_tile = key_row(stored, tile);
        let value_tile = value_row(stored, tile);
        let last = min(TILE_KEYS, end - tile) - 1u;
        // Scores. Chunks are [quad, row] and [quad, key], queries first. Zero is spelled out: Tint zeroes a
        // variable of a loop's body in the first turn only.
        var s = array<array<f32, KEYS>, ROWS>();
        var next_query: array<vec4<f32>, Q_LOADS>;
        var next_key: array<vec4<f32>, K_LOADS>;
        for (var i = 0u; i < Q_LOADS; i++) { // unroll
            let quad = (i * THREADS + thread) % CHUNK;
            let q = query_quad(query[query_at[i] + min(quad, K_QUADS - 1u)]) * params.scale;
            next_query[i] = select(vec4(0.0), q, quad < K_QUADS);
        }
        for (var i = 0u; i < K_LOADS; i++) { // unroll
            let at = i * THREADS + thread;
            let row = key_tile + min(at / CHUNK, last) * params.k_token;
            next_key[i] = key_at(row, min(at % CHUNK, K_QUADS - 1u));
        }
        for (var chunk = 0u; chunk < K_CHUNKS; chunk++) {
            let base = chunk % 2u * STAGE;
            for (var i = 0u; i < Q_LOADS; i++) { // unroll
                let at = i * THREADS + thread;
                memory[base + at % CHUNK * BLOCK_ROWS + at / CHUNK] = next_query[i];
            }
            for (var i = 0u; i < K_LOADS; i++) { // unroll
                let at = i * THREADS + thread;
                memory[base + BLOCK_ROWS * CHUNK + at % CHUNK * TILE_KEYS + at / CHUNK] = next_key[i];
            }
            // Orders this chunk before its reads, and the reads of the chunk before the last
            // before the next one takes its place.
            workgroupBarrier();
            for (var i = 0u; i < Q_LOADS; i++) { // unroll
                // Past the head the query is zero and the last key quad is read again.
                let quad = (chunk + 1u) * CHUNK + (i * THREADS + thread) % CHUNK;
                let q = query_quad(query[query_at[i] + min(quad, K_QUADS - 1u)]) * params.scale;
                next_query[i] = select(vec4(0.0), q, quad < K_QUADS);
            }
            for (var i = 0u; i < K_LOADS; i++) { // unroll
                let at = i * THREADS + thread;
                let quad = min((chunk + 1u) * CHUNK + at % CHUNK, K_QUADS - 1u);
                let row = key_tile + min(at / CHUNK, last) * params.k_token;
                next_key[i] = key_at(row, quad);
            }
            for (var q = 0u; q < CHUNK; q++) { // unroll
                var k: array<vec4<f32>, KEYS>;
                for (var j = 0u; j < KEYS; j++) { // unroll
                    k[j] = memory[base + BLOCK_ROWS * CHUNK + q * TILE_KEYS + j * THREADS_X + x];
                }
                for (var r = 0u; r < ROWS; r++) { // unroll
                    let a = memory[base + q * BLOCK_ROWS + y * ROWS + r];
                    for (var j = 0u; j < KEYS; j++) { // unroll
                        s[r][j] = fma_quad(a, k[j], s[r][j]);
                    }
                }
            }
        }
        // A tile that every row sees whole needs no mask.
        let plain = BIAS_HIDES == 0u
            && tile + TILE_KEYS <= min(visible_to_all(first_own, past, keys), end)
            && in_every_window(tile, tile + TILE_KEYS - 1u, first_own, last_own, past);
        var next_value: array<vec4<f32>, V_LOADS>;
        for (var i = 0u; i < V_LOADS; i++) { // unroll
            let at = i * THREADS + thread;
            let row = value_tile + min(at / V_WIDTH, last) * params.v_token;
            next_value[i] = value_at(row, min(at % V_WIDTH, V_QUADS - 1u));
        }
        // Mask.
        var top: array<f32, ROWS>;
        for (var r = 0u; r < ROWS; r++) { // unroll
            let packed = min(row0 + y * ROWS + r, last_row);
            let head = kv_head * params.group + packed % params.group;
            let row = Row(sequence, head, packed / params.group, past);
            top[r] = MASKED;
            for (var j = 0u; j < KEYS; j++) { // unroll
                let own_key = tile + j * THREADS_X + x;
                var score = modified_score(s[r][j], row, min(own_key, end - 1u));
                if !plain {
                    // The last is false for NaN, which is what a key may hold that a bias hides.
                    let seen = own_key < end && visible(row, own_key) && in_window(row, own_key)
                        && score > MASKED * 0.5;
                    score = select(MASKED, score, seen);
                }
                s[r][j] = score;
                top[r] = max(top[r], score);
            }
        }
        workgroupBarrier(); // orders the reads of the chunks before the maxima take their place
        // New maximum, over the invocations of a row: [x, row].
        for (var h = 0u; h < H; h++) { // unroll
            memory[x * ROW_QUADS + y * H + h] =
                vec4(top[h * 4u], top[h * 4u + 1u], top[h * 4u + 2u], top[h * 4u + 3u]);
        }
        workgroupBarrier(); // orders the maxima before their reads
        for (var h = 0u; h < H; h++) { // unroll
            var most = vec4(MASKED);
            for (var i = 0u; i < THREADS_X; i++) { // unroll
                most = max(most, memory[i * ROW_QUADS + y * H + h]);
            }
            top[h * 4u] = most.x;
            top[h * 4u + 1u] = most.y;
            top[h * 4u + 2u] = most.z;
            top[h * 4u + 3u] = most.w;
        }
        // Rescaling of what came before, and the weights.
        for (var r = 0u; r < ROWS; r++) { // unroll
            let new_maximum = max(maximum[r], top[r]);
            let rescale = exp2(maximum[r] - new_maximum);
            maximum[r] = new_maximum;
            denominator[r] = denominator[r] * rescale;
            for (var v = 0u; v < V_OWN; v++) { // unroll
                accumulator[r][v] = accumulator[r][v] * rescale;
            }
            for (var j = 0u; j < KEYS; j++) { // unroll
                // A score at MASKED is no key's: masked, or hidden by a bias.
                let weight = exp2(s[r][j] - new_maximum);
                s[r][j] = select(0.0, weight, s[r][j] > MASKED * 0.5);
                denominator[r] += s[r][j];
            }
        }
        // Output, a slice of THREADS_X keys at a time: weights [key, row], then values [key, quad].
        for (var j = 0u; j < KEYS; j++) { // unroll
            for (var step = 0u; step < V_STEPS; step++) { // unroll
                workgroupBarrier(); // orders the reads of the last slice before this one
                if step == 0u {
                    for (var h = 0u; h < H; h++) { // unroll
                        memory[x * ROW_QUADS + y * H + h] =
                            vec4(s[h * 4u][j], s[h * 4u + 1u][j], s[h * 4u + 2u][j], s[h * 4u + 3u][j]);
                    }
                }
                for (var i = 0u; i < V_LOADS; i++) { // unroll
                    memory[VALUES + i * THREADS + thread] = finite(next_value[i], plain);
                }
                workgroupBarrier(); // orders the slice before its reads
                let next = j * V_STEPS + step + 1u;
                for (var i = 0u; i < V_LOADS; i++) { // unroll
                    let at = i * THREADS + thread;
                    let own = next / V_STEPS * THREADS_X + at / V_WIDTH;
                    let quad = next % V_STEPS * V_WIDTH + at % V_WIDTH;
                    let row = value_tile + min(own, last) * params.v_token;
                    next_value[i] = value_at(row, min(quad, V_QUADS - 1u));
                }
                for (var i = 0u; i < THREADS_X; i++) {
                    var w: array<vec4<f32>, H>;
                    for (var h = 0u; h < H; h++) { // unroll
                        w[h] = memory[i * ROW_QUADS + y * H + h];
                    }
                    for (var n = 0u; n < V_STEP; n++) { // unroll
                        if step * V_STEP + n < V_OWN {
                            // In bounds also where the loops are written out and this is never reached.
                            let own = min(step * V_STEP + n, V_OWN - 1u);
                            let v = memory[VALUES + i * V_WIDTH + n * THREADS_X + x];
                            for (var r = 0u; r < ROWS; r++) { // unroll
                                accumulator[r][own] = fma(vec4(w[r / 4u][r % 4u]), v, accumulator[r][own]);
                            }
                        }
                    }
                }
            }
        }
        workgroupBarrier(); // orders the reads of the last slice before the next tile's chunks
    }

    // Denominators over the invocations of a row: [x, row].
    for (var h = 0u; h < H; h++) { // unroll
        memory[x * ROW_QUADS + y * H + h] = vec4(
            denominator[h * 4u],
            denominator[h * 4u + 1u],
            denominator[h * 4u + 2u],
            denominator[h * 4u + 3u],
        );
    }
    workgroupBarrier(); // orders the denominators before their reads
    for (var r = 0u; r < ROWS; r++) { // unroll
        let row = row0 + y * ROWS + r;
        if row < rows {
            var sum = 0.0;
            for (var i = 0u; i < THREADS_X; i++) {
                sum += memory[i * ROW_QUADS + y * H + r / 4u][r % 4u];
            }
            let head = kv_head * params.group + row % params.group;
            let q = row / params.group;
            // The sink joins the denominator once, at the end.
            let new_maximum = max(maximum[r], sink(head));
            let rescale = exp2(maximum[r] - new_maximum);
            let total = sum * rescale
                + select(0.0, exp2(sink(head) - new_maximum), sink(head) > MASKED);
            // A row that saw no key has output 0.
            let inverse = select(0.0, rescale / total, total > 0.0);
            let token = query_start + q;
            let at = sequence * params.o_batch + token * params.o_token + head * params.o_head;
            for (var v = 0u; v < V_OWN; v++) { // unroll
                let quad = v * THREADS_X + x;
                if quad < V_QUADS {
                    output[at + quad] = stored_output(accumulator[r][v] * inverse);
                }
            }
            if x == 0u {
                let lse = (new_maximum + log2(total)) * LN_2;
                let index = (sequence * params.max_queries + q) * params.query_heads + head;
                store_lse(index, select(MASKED, lse, total > 0.0));
            }
        }
    }
}
