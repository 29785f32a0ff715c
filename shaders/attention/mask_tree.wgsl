// Draft tree: the queries are the nodes, in node order, and the last keys. Committed keys are
// visible to all; a node's key is visible to the node itself and to its descendants. The ancestor
// sets and depths come from `tree::DraftTree::write_blob`.

@group(0) @binding(TREE_BINDING) var<storage, read> tree: array<u32>;

// The node of a key; past the last one, as a tile may reach, some node inside the blob.
fn node_of(row: Row, key: u32) -> u32 {
    return min(key - row.past, params.max_queries - 1u);
}

fn visible(row: Row, key: u32) -> bool {
    if key < row.past {
        return true;
    }
    let node = node_of(row, key);
    let words =
        row.sequence * params.tree_stride + params.tree_base + row.query * params.tree_words;
    return ((tree[words + node / 32u] >> (node % 32u)) & 1u) == 1u;
}

// One past the last key that any query up to `last_query` sees: ancestors come before a node.
fn visible_end(last_query: u32, past: u32, keys: u32) -> u32 {
    return min(past + last_query + 1u, keys);
}

// Positions, for windows and ALiBi: a node stands as many places after the committed keys as it
// lies deep, whatever its slot.
fn query_position(row: Row) -> i32 {
    let depths = row.sequence * params.tree_stride + params.tree_depth;
    return i32(row.past + tree[depths + row.query]);
}

fn key_position(row: Row, key: u32) -> i32 {
    if key < row.past {
        return i32(key);
    }
    let depths = row.sequence * params.tree_stride + params.tree_depth;
    return i32(row.past + tree[depths + node_of(row, key)]);
}

// One past the last key that every query from `first_query` on sees: the committed ones.
fn visible_to_all(first_query: u32, past: u32, keys: u32) -> u32 {
    return min(past, keys);
}
