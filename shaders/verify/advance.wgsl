// Ends a step of a batch with no host in between: moves each request's length on, and with it the position that
// random numbers are keyed by; appends the kept tokens to its ring; makes the last of them the root of the next tree;
// and says how many workgroups the next step's dispatches have. One workgroup.
//
// Ring of a request: [0] tokens that were ever written, [1] steps, [2] error flags, [3] its position, then
// `ring_tokens` tokens, token i at i % ring_tokens. A request with flags is over: nothing of it moves any more.

struct AdvanceParams {
    batch: u32,
    max_nodes: u32,     // N of the outcome
    outcome_words: u32, // words from one outcome to the next
    tree_words: u32,    // words from one tree blob to the next
    ring_tokens: u32,
    ring_words: u32,    // words from one ring to the next
    next_rows: u32,     // most rows of a request in the next step
    sizes: u32,         // dispatches whose sizes are written
}

// How many workgroups a dispatch has along an axis: `fixed`, or where `keys` is above 0 one for each `keys` keys of the
// longest request, at most `fixed`.
struct Size {
    fixed: u32,
    keys: u32,
}

@group(0) @binding(0) var<uniform> params: AdvanceParams;
@group(0) @binding(1) var<storage, read> outcome: array<u32>; // as in verify/walk.wgsl
@group(0) @binding(2) var<storage, read_write> lengths: array<vec4<u32>>; // [request]: (rows, past, -, -)
@group(0) @binding(3) var<storage, read_write> tree: array<u32>; // [request]: blobs
@group(0) @binding(4) var<storage, read_write> ring: array<u32>; // [request]
@group(0) @binding(5) var<storage, read> sizes: array<Size>; // [dispatch, axis]
@group(0) @binding(6) var<storage, read_write> groups: array<u32>; // [dispatch, axis]

var<workgroup> most_keys: atomic<u32>;

fn advance(request: u32) {
    let start = request * params.outcome_words;
    let own = request * params.ring_words;
    let flags = outcome[start + 1u] | ring[own + 2u];
    ring[own + 2u] = flags;
    if flags == 0u {
        let kept = min(outcome[start], params.max_nodes - 1u) + 1u;
        let written = ring[own];
        for (var i = 0u; i < kept; i++) {
            let token = outcome[start + 2u + params.max_nodes + i];
            // The place is of a count that may pass 2^32: rings have a power of two of tokens.
            ring[own + 4u + (written + i) % params.ring_tokens] = token;
        }
        ring[own] = written + kept;
        ring[own + 1u] += 1u;
        lengths[request].y += kept;
        tree[request * params.tree_words] = outcome[start + 2u + params.max_nodes + kept - 1u];
    }
    ring[own + 3u] = lengths[request].y;
    atomicMax(&most_keys, lengths[request].y + params.next_rows);
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(@builtin(local_invocation_index) lane: u32) {
    if lane == 0u {
        atomicStore(&most_keys, 0u);
    }
    workgroupBarrier(); // orders the zero before the maximum
    for (var request = lane; request < params.batch; request += WORKGROUP_X) {
        advance(request);
    }
    workgroupBarrier(); // orders every request's keys before the sizes
    let keys = atomicLoad(&most_keys);
    for (var i = lane; i < 3u * params.sizes; i += WORKGROUP_X) {
        let size = sizes[i];
        let by_keys = (keys + max(size.keys, 1u) - 1u) / max(size.keys, 1u);
        groups[i] = select(min(by_keys, size.fixed), size.fixed, size.keys == 0u);
    }
}
