// Sliding window: keys less than `window` positions away (Beltagy et al. 2020; Mistral).

fn in_window(row: Row, key: u32) -> bool {
    return abs(query_position(row) - key_position(row, key)) < i32(params.window);
}

// No node of a tree stands before this: the committed keys' end, or with TREE_END what must lie before it.
fn tree_begin(past: u32) -> u32 {
    return past - min(past, select(0u, params.tree_words * 32u, TREE_END == 1u));
}

// The first key that a query from `first_query` on can see. A node of a tree may stand before its
// slot, but never before the committed keys' end.
fn window_begin(first_query: u32, past: u32) -> u32 {
    let query = select(past + first_query, tree_begin(past), TREE_MASK == 1u);
    return u32(max(i32(query) - i32(params.window) + 1, 0));
}

// Whether the keys from `first_key` to `last_key` are in the window of every query from
// `first_query` to `last_query`. Nodes of a tree stand anywhere between the committed keys' end and
// their slot.
fn in_every_window(first_key: u32, last_key: u32, first_query: u32, last_query: u32, past: u32) -> bool {
    let first = i32(select(past + first_query, tree_begin(past), TREE_MASK == 1u));
    let last = i32(past + last_query);
    let window = i32(params.window);
    return last - i32(first_key) < window && i32(last_key) - first < window;
}
