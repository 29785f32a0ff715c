// Causal, aligned bottom-right: the last query sees every key. Keys of the prefix are visible to
// all queries (a prefix of 0 keys is plain causal).

fn visible(row: Row, key: u32) -> bool {
    // As signed numbers: with fewer keys than queries the first queries see nothing.
    return i32(key) <= i32(row.past + row.query) || key < params.prefix;
}

// One past the last key that any query up to `last_query` sees.
fn visible_end(last_query: u32, past: u32, keys: u32) -> u32 {
    let causal = u32(clamp(i32(past + last_query) + 1, 0, i32(keys)));
    return max(causal, min(params.prefix, keys));
}

// Positions, for windows and ALiBi.
fn query_position(row: Row) -> i32 {
    return i32(row.past + row.query);
}

fn key_position(row: Row, key: u32) -> i32 {
    return i32(key);
}

// One past the last key that every query from `first_query` on sees.
fn visible_to_all(first_query: u32, past: u32, keys: u32) -> u32 {
    return visible_end(first_query, past, keys);
}
