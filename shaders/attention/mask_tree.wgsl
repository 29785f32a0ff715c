// Draft tree: the queries are the nodes, in node order, and the last keys; with TREE_END the last nodes only.
// Committed keys are visible to all; a node's key is visible to the node itself and to its descendants. The
// ancestor sets and depths come from `tree::DraftTree::write_blob`.

@group(0) @binding(TREE_BINDING) var<storage, read> tree: array<u32>;

// Nodes before the first query.
fn nodes_before(sequence: u32) -> u32 {
    if TREE_END == 0u {
        return 0u;
    }
    // The count is the GPU's: whatever it is, nothing past the blob is read.
    let nodes = min(tree[sequence * params.tree_stride + params.tree_nodes], params.tree_most);
    return nodes - min(nodes, min(lengths[sequence].queries, params.max_queries));
}

// The node of a key after `committed` ones; past the last one, as a tile may reach, some node inside the blob.
fn node_of(committed: u32, key: u32) -> u32 {
    return min(key - committed, params.tree_words * 32u - 1u);
}

fn visible(row: Row, key: u32) -> bool {
    let before = nodes_before(row.sequence);
    let committed = row.past - before;
    if key < committed {
        return true;
    }
    let node = node_of(committed, key);
    let words =
        row.sequence * params.tree_stride + params.tree_base + (before + row.query) * params.tree_words;
    return ((tree[words + node / 32u] >> (node % 32u)) & 1u) == 1u;
}

// One past the last key that any query up to `last_query` sees: ancestors come before a node.
fn visible_end(last_query: u32, past: u32, keys: u32) -> u32 {
    return min(past + last_query + 1u, keys);
}

// Positions, for windows and ALiBi: a node stands as many places after the committed keys as it
// lies deep, whatever its slot.
fn query_position(row: Row) -> i32 {
    let before = nodes_before(row.sequence);
    let depths = row.sequence * params.tree_stride + params.tree_depth;
    return i32(row.past - before + tree[depths + before + row.query]);
}

fn key_position(row: Row, key: u32) -> i32 {
    let committed = row.past - nodes_before(row.sequence);
    if key < committed {
        return i32(key);
    }
    let depths = row.sequence * params.tree_stride + params.tree_depth;
    return i32(committed + tree[depths + node_of(committed, key)]);
}

// One past the last key that every query from `first_query` on sees: the committed ones, and with TREE_END
// none that is known without a sequence.
fn visible_to_all(first_query: u32, past: u32, keys: u32) -> u32 {
    return select(min(past, keys), 0u, TREE_END == 1u);
}
