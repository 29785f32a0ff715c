// Causal, aligned bottom-right: the last query sees every key.

fn visible(sequence: u32, query: u32, key: u32, past: u32) -> bool {
    // As signed numbers: with fewer keys than queries the first queries see nothing.
    return i32(key) <= i32(past + query);
}

// One past the last key that any query up to `last_query` sees.
fn visible_end(last_query: u32, past: u32, keys: u32) -> u32 {
    return u32(clamp(i32(past + last_query) + 1, 0, i32(keys)));
}
