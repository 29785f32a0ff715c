// Logits into weights: penalties, grammar mask, temperature, cut-off. Nothing is written back.

@group(0) @binding(4) var<storage, read> masks: array<u32>; // [request][occurred, then node][mask word]
@group(0) @binding(5) var<storage, read> target_logits: array<u32>; // rows from params.first_row on
@group(0) @binding(6) var<storage, read> draft_logits: array<u32>;  // [request, draft row, vocabulary]

const LOWEST: f32 = -3.4028234e38; // stands for -inf: the token has no probability
const HIGHEST: f32 = 3.4028234e38;

var<workgroup> scratch: array<f32, WORKGROUP_X>;
var<workgroup> sums: array<f32, 16>;

// The sum of every invocation's value, in one order whatever the device.
fn sum_all(value: f32, lane: u32) -> f32 {
    scratch[lane] = value;
    workgroupBarrier(); // orders every value before the sums of 16
    if lane < 16u {
        var sum = 0.0;
        for (var i = lane; i < WORKGROUP_X; i += 16u) {
            sum += scratch[i];
        }
        sums[lane] = sum;
    }
    workgroupBarrier(); // orders the 16 sums before all read them
    var sum = 0.0;
    for (var i = 0u; i < 16u; i++) {
        sum += sums[i];
    }
    workgroupBarrier(); // orders the reads before the next call's writes
    return sum;
}

// A row of logits: of the target after `node`, or the one from which the node's children were drawn.
struct Source {
    request: u32,
    node: u32,
    start: u32, // element of the row's first logit
    is_draft: bool,
}

fn target_source(request: u32, node: u32) -> Source {
    let row = request * params.max_nodes + node - params.first_row;
    return Source(request, node, row * params.row_stride, false);
}

fn draft_source(request: u32, node: u32) -> Source {
    // Siblings share the row that the first child names. A bad row is cut to a good one, which
    // `has_draft` has already refused.
    let child = min(first_child(request, node), params.max_nodes - 1u);
    let row = min(tree_field(request, 7u, child), max(params.draft_rows, 1u) - 1u);
    let start = (request * params.draft_rows + row) * params.row_stride;
    return Source(request, node, start, true);
}

// Whether the children of `node` were drawn by chance from a row that is there.
fn has_draft(request: u32, node: u32) -> bool {
    let child = first_child(request, node);
    return requests[request].draw != DRAW_TOP_K
        && is_child(child, node, node_count(request))
        && tree_field(request, 7u, min(child, params.max_nodes - 1u)) < params.draft_rows;
}

fn settings_of(source: Source) -> Settings {
    if source.is_draft {
        return requests[source.request].drafting;
    }
    return requests[source.request].sampling;
}

// The logit as a finite number; LOWEST for -inf and NaN.
fn raw_logit(source: Source, y: u32) -> f32 {
    var bits: u32;
    if source.is_draft {
        bits = draft_bits(source.start + y);
    } else {
        bits = target_bits(source.start + y);
    }
    if (bits & 0x7fffffffu) > 0x7f800000u || bits == 0xff800000u {
        return LOWEST;
    }
    if bits == 0x7f800000u {
        return HIGHEST;
    }
    return bitcast<f32>(bits);
}

// Whether `y` is among the committed tokens or on the path to the source's node.
fn occurred(source: Source, y: u32) -> bool {
    let committed = source.request * params.mask_rows * params.mask_words;
    if ((masks[committed + y / 32u] >> (y % 32u)) & 1u) == 1u {
        return true;
    }
    var node = source.node;
    // A parent comes before its child, so the walk ends at the root.
    for (var i = 0u; i < params.max_nodes; i++) {
        if token_of(source.request, node) == y {
            return true;
        }
        let parent = parent_of(source.request, node);
        if parent >= node {
            break;
        }
        node = parent;
    }
    return false;
}

fn allowed(source: Source, y: u32) -> bool {
    let row = source.request * params.mask_rows + 1u + source.node;
    return ((masks[row * params.mask_words + y / 32u] >> (y % 32u)) & 1u) == 1u;
}

// The processed logit before the cut-off; LOWEST for a token without probability.
fn processed(source: Source, settings: Settings, y: u32) -> f32 {
    var z = raw_logit(source, y);
    if z <= LOWEST {
        return LOWEST;
    }
    if (settings.uses & USES_PENALTY) != 0u && occurred(source, y) {
        if z > 0.0 {
            z = z / settings.repetition;
        } else {
            z = z * settings.repetition;
        }
        z -= settings.presence;
    }
    if (settings.uses & USES_GRAMMAR) != 0u && !allowed(source, y) {
        return LOWEST;
    }
    return clamp(z / settings.temperature, LOWEST, HIGHEST);
}

// A number that orders as floats do.
fn key_of(z: f32) -> u32 {
    var bits = bitcast<u32>(z);
    bits = select(bits, 0u, bits == 0x80000000u); // -0 equals 0
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

// exp(z - max): at most 1, and 0 for a token without probability.
fn exponential(z: f32, top: f32) -> f32 {
    // Below exp(-104) f32 holds nothing; the bound keeps infinities out.
    return select(exp(max(z - top, -150.0)), 0.0, z <= LOWEST);
}

// The probability of `y` under a row.
fn probability(source: Source, settings: Settings, row: Row, y: u32) -> f32 {
    let z = processed(source, settings, y);
    let key = key_of(z);
    let kept = key > row.cut || (key == row.cut && y <= row.last);
    return select(0.0, exponential(z, row.max) / row.sum, kept && row.sum > 0.0);
}

// The children of `node` whose tokens can't be drawn again once they are rejected, up to and with
// `through`: a quick mask of them, to look only where it hits.
fn removed_mask(request: u32, node: u32, through: u32) -> u32 {
    var mask = 0u;
    let count = node_count(request);
    var before = node;
    var child = first_child(request, node);
    while is_child(child, before, count) && child <= through {
        mask |= 1u << (token_of(request, child) % 32u);
        before = child;
        child = next_sibling(request, child);
    }
    return mask;
}

fn is_removed(request: u32, node: u32, through: u32, mask: u32, y: u32) -> bool {
    if ((mask >> (y % 32u)) & 1u) == 0u {
        return false;
    }
    let count = node_count(request);
    var before = node;
    var child = first_child(request, node);
    while is_child(child, before, count) && child <= through {
        if token_of(request, child) == y {
            return true;
        }
        before = child;
        child = next_sibling(request, child);
    }
    return false;
}
