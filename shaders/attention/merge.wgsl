// Joins the partial states of a row's spans, in ascending order, into output and LSE.
// One workgroup a row.

// A partial state: the quads of the output sum, then (maximum, denominator, 0, 0).
const STATE_QUADS: u32 = V_QUADS + 1u;

@group(0) @binding(2) var<storage, read> partials: array<vec4<f32>>; // [row, span, STATE_QUADS]
@group(0) @binding(3) var<storage, read_write> output: array<StoredOutput>;

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
    if q >= queries {
        return;
    }
    let keys = min(lengths[sequence].past + lengths[sequence].queries, params.max_keys);
    let spans = (keys + SPAN - 1u) / SPAN;
    let kept = (sequence * params.chunk + group.y) * params.query_heads + head;
    let first = kept * params.max_spans;
    let row = (sequence * params.max_queries + q) * params.query_heads + head;

    var maximum = sink(head);
    for (var span = 0u; span < spans; span++) {
        maximum = max(maximum, span_state(first + span).x);
    }
    // Without a sink, or with nothing seen, the difference is 0 or far below what exp2 can hold.
    var denominator = select(0.0, exp2(sink(head) - maximum), sink(head) > MASKED);
    for (var span = 0u; span < spans; span++) {
        let state = span_state(first + span);
        denominator = fma(exp2(state.x - maximum), state.y, denominator);
    }
    // A row that saw no key has output 0.
    let inverse = select(0.0, 1.0 / denominator, denominator > 0.0);
    let token = first_query(sequence, queries) + q;
    for (var quad = lane; quad < V_QUADS; quad += WORKGROUP_X) {
        var sum = vec4(0.0);
        for (var span = 0u; span < spans; span++) {
            let weight = exp2(span_state(first + span).x - maximum);
            sum = fma(vec4(weight), partials[(first + span) * STATE_QUADS + quad], sum);
        }
        let at = sequence * params.o_batch + token * params.o_token + head * params.o_head + quad;
        output[at] = stored_output(sum * inverse);
    }
    if lane == 0u {
        store_lse(row, select(MASKED, (maximum + log2(denominator)) * LN_2, denominator > 0.0));
    }
}
