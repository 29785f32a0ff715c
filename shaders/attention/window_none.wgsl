// No window.

fn in_window(row: Row, key: u32) -> bool {
    return true;
}

// The first key that a query from `first_query` on can see.
fn window_begin(first_query: u32, past: u32) -> u32 {
    return 0u;
}

// Whether the keys from `first_key` to `last_key` are in the window of every query from
// `first_query` to `last_query`.
fn in_every_window(first_key: u32, last_key: u32, first_query: u32, last_query: u32, past: u32) -> bool {
    return true;
}
