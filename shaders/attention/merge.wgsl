// Joins the partial states of a row's spans, in ascending order, into output and LSE.
// One workgroup a row. The states' maxima and denominators are read once, an invocation for each,
// and the weights of up to WORKGROUP_X spans at a time lie in workgroup memory.

// A partial state: the quads of the output sum, then (maximum, denominator, 0, 0).
const STATE_QUADS: u32 = V_QUADS + 1u;
const OWN: u32 = (V_QUADS + WORKGROUP_X - 1u) / WORKGROUP_X; // quads of an invocation

@group(0) @binding(2) var<storage, read> partials: array<vec4<f32>>; // [row, span, STATE_QUADS]
@group(0) @binding(3) var<storage, read_write> output: array<StoredOutput>;

var<workgroup> states: array<vec2<f32>, WORKGROUP_X>; // (maximum, denominator), then (weight, ...)

// (maximum, denominator) of a span.
fn span_state(span: u32) -> vec2<f32> {
    return partials[span * STATE_QUADS + V_QUADS].xy;
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let head = group.x;
    let q = params.chunk_start + group.y;
    let sequence = group.z;
    let queries = min(lengths[sequence].queries, params.max_queries);
    let keys = min(past_of(sequence) + lengths[sequence].queries, params.max_keys);
    // An idle workgroup joins no span and stores nothing; it does not return, for barriers follow.
    let live = q < queries;
    let spans = select(0u, (keys + SPAN - 1u) / SPAN, live);
    let kept = (sequence * params.chunk + group.y) * params.query_heads + head;
    let first = kept * params.max_spans;

    // The greatest maximum: of this invocation's spans, then of all.
    var own = MASKED;
    for (var span = lane; span < spans; span += WORKGROUP_X) {
        own = max(own, span_state(first + span).x);
    }
    states[lane] = vec2(own, 0.0);
    workgroupBarrier(); // orders the maxima before their reads
    var maximum = sink(head);
    for (var i = 0u; i < WORKGROUP_X; i++) { // unroll
        maximum = max(maximum, states[i].x);
    }

    // Without a sink, or with nothing seen, the difference is 0 or far below what exp2 can hold.
    var denominator = select(0.0, exp2(sink(head) - maximum), sink(head) > MASKED);
    var sums: array<vec4<f32>, OWN>;
    for (var base = 0u; base < spans; base += WORKGROUP_X) {
        workgroupBarrier(); // orders the reads of what the states held before they are overwritten
        let state = span_state(first + min(base + lane, spans - 1u));
        states[lane] = vec2(exp2(state.x - maximum), state.y);
        workgroupBarrier(); // orders the weights before their reads
        let count = min(spans - base, WORKGROUP_X);
        for (var i = 0u; i < count; i += 4u) {
            var part: array<array<vec4<f32>, OWN>, 4>;
            for (var n = 0u; n < 4u; n++) { // unroll
                let span = first + base + min(i + n, count - 1u);
                for (var o = 0u; o < OWN; o++) { // unroll
                    let quad = min(o * WORKGROUP_X + lane, V_QUADS - 1u);
                    part[n][o] = partials[span * STATE_QUADS + quad];
                }
            }
            for (var n = 0u; n < 4u; n++) { // unroll
                if i + n < count {
                    let weight = states[i + n];
                    denominator = fma(weight.x, weight.y, denominator);
                    for (var o = 0u; o < OWN; o++) { // unroll
                        sums[o] = fma(vec4(weight.x), part[n][o], sums[o]);
                    }
                }
            }
        }
    }
    if live {
        // A row that saw no key has output 0.
        let inverse = select(0.0, 1.0 / denominator, denominator > 0.0);
        let token = first_query(sequence, queries) + q;
        let at = sequence * params.o_batch + token * params.o_token + head * params.o_head;
        for (var o = 0u; o < OWN; o++) { // unroll
            let quad = o * WORKGROUP_X + lane;
            if quad < V_QUADS {
                output[at + quad] = stored_output(sums[o] * inverse);
            }
        }
        if lane == 0u {
            let row = (sequence * params.max_queries + q) * params.query_heads + head;
            let lse = (maximum + log2(denominator)) * LN_2;
            store_lse(row, select(MASKED, lse, denominator > 0.0));
        }
    }
}
