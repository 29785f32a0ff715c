// Sliding window: keys less than `window` positions away (Beltagy et al. 2020; Mistral).

fn in_window(row: Row, key: u32) -> bool {
    return abs(query_position(row) - key_position(row, key)) < i32(params.window);
}

// The first key that a query from `first_query` on can see. A node of a tree may stand before its
// slot, but never before the committed keys' end.
fn window_begin(first_query: u32, past: u32) -> u32 {
    let query = select(past + first_query, past, TREE_MASK == 1u);
    return u32(max(i32(query) - i32(params.window) + 1, 0));
}
