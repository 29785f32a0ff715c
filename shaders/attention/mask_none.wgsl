// Every query sees every key.

fn visible(sequence: u32, query: u32, key: u32, past: u32) -> bool {
    return true;
}

// One past the last key that any query up to `last_query` sees.
fn visible_end(last_query: u32, past: u32, keys: u32) -> u32 {
    return keys;
}
