// Rotary position embedding (Su et al. 2021) on interleaved pairs (2i, 2i+1), fused with the
// write of keys and values into the cache. One workgroup a row; the input row is
// [query heads, key heads, value heads] x head_dim, as the fused projection leaves it.
//
// Row r sits at position past + depth[r] and goes to cache slot past + r: siblings of a draft tree
// share a position but not a slot.

struct RopeParams {
    query_heads: u32,
    kv_heads: u32,
    head_pairs: u32,    // pairs in a head
    rotated_pairs: u32, // pairs that are rotated; the rest pass through
    x_stride: u32,      // f32 pairs from one input row to the next
    q_stride: u32,      // f32 pairs from one query row to the next
    capacity: u32,      // slots of the cache
    positions: u32,     // rows of the table
}

struct Step {
    rows: u32,
    past: u32,
}

@group(0) @binding(0) var<uniform> params: RopeParams;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> depth: array<u32>; // [row]
@group(0) @binding(3) var<storage, read> table: array<vec2<f32>>; // [position, pair]: cos, sin
@group(0) @binding(4) var<storage, read> x: array<vec2<f32>>; // [row, head, pair]
@group(0) @binding(5) var<storage, read_write> query: array<vec2<f32>>; // [row, query_head, pair]
@group(0) @binding(6) var<storage, read_write> key: array<StoredPair>; // [kv_head, slot, pair]
@group(0) @binding(7) var<storage, read_write> value: array<StoredPair>; // [kv_head, slot, pair]

fn rotate(pair: vec2<f32>, position: u32, index: u32) -> vec2<f32> {
    if index >= params.rotated_pairs {
        return pair;
    }
    let turn = table[position * params.rotated_pairs + index];
    return vec2(pair.x * turn.x - pair.y * turn.y, pair.x * turn.y + pair.y * turn.x);
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x;
    let slot = step.past + row;
    if row >= step.rows || slot >= params.capacity {
        return;
    }
    let position = min(step.past + depth[row], params.positions - 1u);
    let query_pairs = params.query_heads * params.head_pairs;
    let kv_pairs = params.kv_heads * params.head_pairs;
    for (var i = lane; i < query_pairs + 2u * kv_pairs; i += WORKGROUP_X) {
        let pair = x[row * params.x_stride + i];
        let index = i % params.head_pairs;
        if i < query_pairs {
            query[row * params.q_stride + i] = rotate(pair, position, index);
        } else if i < query_pairs + kv_pairs {
            let head = (i - query_pairs) / params.head_pairs;
            let at = (head * params.capacity + slot) * params.head_pairs + index;
            key[at] = stored_pair(rotate(pair, position, index));
        } else {
            let head = (i - query_pairs - kv_pairs) / params.head_pairs;
            let at = (head * params.capacity + slot) * params.head_pairs + index;
            value[at] = stored_pair(pair);
        }
    }
}
