// Draft tree: the queries are the nodes, in node order, and the last keys. Committed keys are
// visible to all; a node's key is visible to the node itself and to its descendants. The ancestor
// sets come from `tree::DraftTree::write_blob`.

@group(0) @binding(TREE_BINDING) var<storage, read> tree: array<u32>;

fn visible(sequence: u32, query: u32, key: u32, past: u32) -> bool {
    if key < past {
        return true;
    }
    let node = key - past;
    let words = sequence * params.tree_stride + params.tree_base + query * params.tree_words;
    return (tree[words + node / 32u] >> (node % 32u) & 1u) == 1u;
}

// One past the last key that any query up to `last_query` sees: ancestors come before a node.
fn visible_end(last_query: u32, past: u32, keys: u32) -> u32 {
    return min(past + last_query + 1u, keys);
}
