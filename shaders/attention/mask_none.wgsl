// Every query sees every key.

fn visible(row: Row, key: u32) -> bool {
    return true;
}

// One past the last key that any query up to `last_query` sees.
fn visible_end(last_query: u32, past: u32, keys: u32) -> u32 {
    return keys;
}

// Positions, for windows and ALiBi. The last query stands at the last key.
fn query_position(row: Row) -> i32 {
    return i32(row.past + row.query);
}

fn key_position(row: Row, key: u32) -> i32 {
    return i32(key);
}

// One past the last key that every query from `first_query` on sees.
fn visible_to_all(first_query: u32, past: u32, keys: u32) -> u32 {
    return keys;
}
