// The next level of a tree whose children were drawn by chance: each node of the newest level gets the tokens of its
// draws, in order. The row that a node was drawn from is its parent's number. One workgroup a request. Twin:
// reference::tree::drawn.

struct GrowParams {
    nodes: u32,       // most nodes of the tree
    rows: u32,        // nodes of a request that may have children in this level
    width: u32,       // tokens drawn for each
    depth: u32,       // of the children
    tree_stride: u32, // nodes that a blob has room for
    tree_words: u32,  // words of a blob
}

@group(0) @binding(0) var<uniform> params: GrowParams;
@group(0) @binding(1) var<storage, read> candidates: array<Ranked>; // [request, node of the level, draw]
@group(0) @binding(2) var<storage, read_write> tree: array<u32>; // [request]: blobs
@group(0) @binding(3) var<storage, read_write> lengths: array<vec4<u32>>; // [request]: (rows, past, -, -)
@group(0) @binding(4) var<storage, read_write> levels: array<vec2<u32>>; // [request]: as in tree/draw.wgsl

var<workgroup> node_count: u32;

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let request = group.x;
    let base = request * params.tree_words;
    let level = select(levels[request], vec2(0u, 1u), params.depth == 1u);
    let end = min(level.y, params.nodes);
    for (var node = lane; node < end; node += WORKGROUP_X) {
        parents[node] = 0u;
        if node > 0u {
            parents[node] = min(tree[base + params.tree_stride + node], node - 1u);
        }
    }
    workgroupBarrier(); // orders the level's end, which all have read, before the next level's
    if lane == 0u {
        var count = end;
        for (var node = level.x; node < end; node++) {
            let first = (request * params.rows + node - level.x) * params.width;
            for (var i = 0u; i < params.width; i++) {
                let drawn = candidates[first + i];
                if drawn.key != NO_KEY && count < params.nodes {
                    tree[base + count] = drawn.index;
                    parents[count] = node;
                    count++;
                }
            }
        }
        node_count = count;
        lengths[request].x = count;
        levels[request] = vec2(end, count);
    }
    storageBarrier(); // orders the tokens before the fields
    let count = workgroupUniformLoad(&node_count);
    link(base, params.tree_stride, count, lane);
    // The same invocation wrote the rows of these nodes.
    for (var node = lane; node < count; node += WORKGROUP_X) {
        if node > 0u {
            tree[base + 7u * params.tree_stride + node] = parents[node];
        }
    }
}
