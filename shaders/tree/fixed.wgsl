// A tree of a fixed shape, filled with candidates: node i takes candidate `rank` of row `row`, as Medusa's
// paths do (Cai et al. 2024, section 2.1.2). A node whose row has no such candidate is left out with all below
// it. One workgroup a request. Twin: tree::DraftTree::from_paths.

struct FixedParams {
    nodes: u32,       // of the shape
    rows: u32,        // rows of candidates of a request
    k: u32,           // candidates of a row
    tree_stride: u32, // nodes that a blob has room for
    tree_words: u32,  // words of a blob
}

struct Candidate {
    token: u32,
    log_probability: f32,
}

// A node of the shape.
struct Place {
    parent: u32,
    row: u32,
    rank: u32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> params: FixedParams;
@group(0) @binding(1) var<storage, read> shape: array<Place>; // [node], the root's is not read
@group(0) @binding(2) var<storage, read_write> tree: array<u32>; // [request]: blobs
@group(0) @binding(3) var<storage, read> candidates: array<Candidate>; // [request, row, rank]
@group(0) @binding(4) var<storage, read_write> lengths: array<vec4<u32>>; // [request]: (rows, -, -, -)

const NONE: u32 = 0xffffffffu;

var<workgroup> kept: array<u32, MAX_NODES>; // the node that a place becomes, or NONE
var<workgroup> kept_count: u32;

fn token_at(request: u32, place: Place) -> u32 {
    return candidates[(request * params.rows + place.row) * params.k + place.rank].token;
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let request = group.x;
    let base = request * params.tree_words;
    for (var node = lane; node < params.nodes; node += WORKGROUP_X) {
        kept[node] = 0u;
        if node > 0u && token_at(request, shape[node]) == NONE {
            kept[node] = NONE;
        }
    }
    workgroupBarrier(); // orders what is there before the numbering
    if lane == 0u {
        // In order of nodes, parents first.
        var count = 1u;
        for (var node = 1u; node < params.nodes; node++) {
            if kept[node] != NONE && kept[shape[node].parent] != NONE {
                kept[node] = count;
                count++;
            } else {
                kept[node] = NONE;
            }
        }
        kept_count = count;
        lengths[request].x = count;
        parents[0] = 0u;
    }
    workgroupBarrier(); // orders the numbers before their reads
    for (var node = 1u + lane; node < params.nodes; node += WORKGROUP_X) {
        let own = kept[node];
        if own != NONE {
            tree[base + own] = token_at(request, shape[node]);
            parents[own] = kept[shape[node].parent];
        }
    }
    link(base, params.tree_stride, kept_count, lane);
}
