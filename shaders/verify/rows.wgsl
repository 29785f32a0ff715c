// Statistics of each node's rows: maximum, sum and cut-off, from which any token's probability is one
// exponential away. One workgroup a row of the bound part. Twin: reference::verify::processing.

struct Best {
    key: u32,
    token: u32,
}

var<workgroup> candidates: array<Best, WORKGROUP_X>;
var<workgroup> finalists: array<Best, 16>;

fn better(a: Best, b: Best) -> Best {
    let wins = b.key > a.key || (b.key == a.key && b.token < a.token);
    return Best(select(a.key, b.key, wins), select(a.token, b.token, wins));
}

// The largest key of all invocations, of equal ones that with the lowest token.
fn best_of_all(own: Best, lane: u32) -> Best {
    candidates[lane] = own;
    workgroupBarrier(); // orders every candidate before the best of 16
    var best = Best(0u, NONE);
    if lane < 16u {
        for (var i = lane; i < WORKGROUP_X; i += 16u) {
            best = better(best, candidates[i]);
        }
        finalists[lane] = best;
    }
    workgroupBarrier(); // orders the 16 before all read them
    best = finalists[0];
    for (var i = 1u; i < 16u; i++) {
        best = better(best, finalists[i]);
    }
    workgroupBarrier(); // orders the reads before the next call's writes
    return best;
}

fn from_key(key: u32) -> f32 {
    return bitcast<f32>(select(~key, key & 0x7fffffffu, (key & 0x80000000u) != 0u));
}

// A part of a row in the order of likelihood: keys above `cut`, and of those that equal it tokens up to
// `last`.
struct Part {
    cut: u32,
    last: u32,
}

fn is_in(part: Part, key: u32, y: u32) -> bool {
    return key > part.cut || (key == part.cut && y <= part.last);
}

// The weight, or with `counts` the number, of the tokens of `part` that also are in `within`.
fn weigh(
    source: Source, settings: Settings, top: f32, part: Part, within: Part, counts: bool, lane: u32,
) -> f32 {
    var sum = 0.0;
    for (var y = lane; y < params.vocabulary; y += WORKGROUP_X) {
        let z = processed(source, settings, y);
        let key = key_of(z);
        if z > LOWEST && is_in(part, key, y) && is_in(within, key, y) {
            sum += select(exponential(z, top), 1.0, counts);
        }
    }
    return sum_all(sum, lane);
}

// The smallest part whose weight (or number) reaches `wanted`: first the key, bit by bit, then the token
// among equal keys. The whole of `within` when it does not reach so far.
fn select_part(
    source: Source, settings: Settings, top: f32, within: Part, wanted: f32, counts: bool, lane: u32,
) -> Part {
    var cut = 0u;
    for (var i = 0u; i < 32u; i++) {
        let higher = cut | (0x80000000u >> i);
        let sum = weigh(source, settings, top, Part(higher, NONE), within, counts, lane);
        cut = select(cut, higher, sum >= wanted);
    }
    var last = 0u;
    for (var i = 0u; i < 18u; i++) { // 2^18 tokens are the largest vocabulary
        let further = last + (0x20000u >> i);
        let sum = weigh(source, settings, top, Part(cut, further - 1u), within, counts, lane);
        last = select(last, further, sum < wanted);
    }
    // Rounding may leave the sum short with every token in.
    let reaches = cut > 0u;
    return Part(max(cut, within.cut), select(within.last, last, reaches && cut >= within.cut));
}

fn row_of(source: Source, lane: u32) -> Row {
    let settings = settings_of(source);
    var own = Best(0u, NONE);
    for (var y = lane; y < params.vocabulary; y += WORKGROUP_X) {
        let key = key_of(processed(source, settings, y));
        if key > own.key {
            own = Best(key, y);
        }
    }
    let best = best_of_all(own, lane);
    let top = from_key(best.key);
    if !source.is_draft && lane == 0u {
        nodes[source.request * params.max_nodes + source.node].argmax =
            select(best.token, NONE, top <= LOWEST);
    }
    var part = Part(0u, NONE);
    if settings.top_k > 0u && settings.top_k < params.vocabulary {
        part = select_part(source, settings, top, part, f32(settings.top_k), true, lane);
    }
    if settings.top_p < 1.0 {
        let mass = weigh(source, settings, top, part, part, false, lane);
        part = select_part(source, settings, top, part, settings.top_p * mass, false, lane);
    }
    if settings.min_p > 0.0 {
        // exp(z - top) >= min_p; the likeliest itself always stays.
        let bar = min(top + log(settings.min_p), top);
        let cut = key_of(max(bar, LOWEST));
        if cut > part.cut {
            part = Part(cut, NONE);
        }
    }
    let sum = weigh(source, settings, top, part, part, false, lane);
    return Row(top, sum, part.cut, part.last);
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = params.first_row + group.x;
    let request = row / params.max_nodes;
    let node = row % params.max_nodes;
    if node >= node_count(request) {
        return;
    }
    let source = target_source(request, node);
    let settings = settings_of(source);
    let after = row_of(source, lane);

    // The softmax of the logits as they are, for log-probabilities; and the entropy.
    var raw_own = 0u;
    var slope = 0.0;
    for (var y = lane; y < params.vocabulary; y += WORKGROUP_X) {
        raw_own = max(raw_own, key_of(raw_logit(source, y)));
        let p = probability(source, settings, after, y);
        if p > 0.0 {
            slope = fma(p, after.max - processed(source, settings, y), slope);
        }
    }
    let raw_max = from_key(best_of_all(Best(raw_own, lane), lane).key);
    var raw_own_sum = 0.0;
    for (var y = lane; y < params.vocabulary; y += WORKGROUP_X) {
        raw_own_sum += exponential(raw_logit(source, y), raw_max);
    }
    let raw_sum = sum_all(raw_own_sum, lane);
    let entropy = sum_all(slope, lane) + log(max(after.sum, 1.0));

    var drafted = Row(0.0, 0.0, 0u, NONE);
    if has_draft(request, node) {
        drafted = row_of(draft_source(request, node), lane);
    }
    if lane == 0u {
        let at = request * params.max_nodes + node;
        nodes[at].after = after;
        nodes[at].drafted = drafted;
        nodes[at].raw_max = raw_max;
        nodes[at].raw_sum = raw_sum;
        nodes[at].entropy = entropy;
    }
}
