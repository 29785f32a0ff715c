// Draft trees as they lie in memory. A parameter struct has `tree_words`, words of one blob, `tree_stride`, nodes that a
// blob has room for, and `max_nodes`, nodes that there may be at most.

const NONE: u32 = 0xffffffffu;
const FLAG_BAD_TREE: u32 = 2u;
const FLAG_TOKEN_OUTSIDE: u32 = 32u; // of the vocabulary

@group(0) @binding(2) var<storage, read> tree: array<u32>; // [request] blobs of tree::DraftTree

fn tree_field(request: u32, field: u32, node: u32) -> u32 {
    return tree[request * params.tree_words + field * params.tree_stride + node];
}

fn token_of(request: u32, node: u32) -> u32 {
    return tree_field(request, 0u, node);
}

fn parent_of(request: u32, node: u32) -> u32 {
    return tree_field(request, 1u, node);
}

fn first_child(request: u32, node: u32) -> u32 {
    return tree_field(request, 2u, node);
}

fn next_sibling(request: u32, node: u32) -> u32 {
    return tree_field(request, 3u, node);
}

// Nodes in use: where preorder ends. 0 for a blob that claims more than there is room for.
fn node_count(request: u32) -> u32 {
    let count = tree_field(request, 6u, 0u);
    return select(0u, count, count <= params.max_nodes);
}

// Whether `child` may follow `before` as a child or sibling: both ascend, so every walk ends.
fn is_child(child: u32, before: u32, count: u32) -> bool {
    return child > before && child < count;
}
