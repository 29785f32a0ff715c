// What the kernels of a dynamic tree share (Li et al. 2024, EAGLE-2, section 4). The pool holds every
// drafted token of a request in the order in which it was drafted: arrays of `entries` words each: key of
// the cumulative log-probability, token, parent's entry, node of the entry in the blob.

struct DynamicParams {
    entries: u32,       // of a request's pool
    width: u32,         // most nodes of a level that are drafted from
    children: u32,      // candidates of a node
    max_nodes: u32,     // of the tree
    tree_stride: u32,   // nodes that a blob has room for
    tree_words: u32,    // words of a blob
    begin: u32,         // first entry of this level's candidates; in begin.wgsl the words of a finished tree's blob
    rows: u32,          // nodes of the level before, of which the candidates are children
    first_node: u32,    // node of the first of them
    next_rows: u32,     // of the candidates, how many are drafted from
    next_node: u32,     // node of the first of those
    level: u32,         // depth of the candidates
}

@group(0) @binding(0) var<uniform> params: DynamicParams;
@group(0) @binding(1) var<storage, read_write> pool: array<u32>; // [request, field, entry]
@group(0) @binding(2) var<storage, read_write> tree: array<u32>; // [request]: blobs

fn key_field(request: u32) -> u32 {
    return request * 4u * params.entries;
}

fn token_field(request: u32) -> u32 {
    return (request * 4u + 1u) * params.entries;
}

fn parent_field(request: u32) -> u32 {
    return (request * 4u + 2u) * params.entries;
}

fn node_field(request: u32) -> u32 {
    return (request * 4u + 3u) * params.entries;
}
