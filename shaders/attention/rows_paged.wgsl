// Where the keys and values of a head lie: in pages of a pool, found through a table. A page holds
// PAGE_TOKENS tokens, a multiple of every tile, so that a tile never straddles two pages and needs
// one look-up.

@group(0) @binding(PAGES_BINDING) var<storage, read> page_table: array<u32>; // [sequence, page]

// What addresses of a sequence's keys and values of one KV head start from.
struct HeadRows {
    key: u32,
    value: u32,
    table: u32, // first entry of the sequence
}

fn head_rows(sequence: u32, kv_head: u32, keys: u32) -> HeadRows {
    let own = kv_head - params.first_kv_head;
    return HeadRows(
        own * params.k_head,
        own * params.v_head,
        sequence * params.table_stride + params.first_entry,
    );
}

// The page of a token. A table may hold anything where there is no key: it never leads out of the pool.
fn page_of(head: HeadRows, token: u32) -> u32 {
    return min(page_table[head.table + token / PAGE_TOKENS], params.pool_pages - 1u);
}

// First unit of a token's key; the tokens of a tile follow it at a distance of `params.k_token`.
fn key_row(head: HeadRows, token: u32) -> u32 {
    return head.key + page_of(head, token) * params.k_batch + token % PAGE_TOKENS * params.k_token;
}

// As `key_row` for values.
fn value_row(head: HeadRows, token: u32) -> u32 {
    return head.value + page_of(head, token) * params.v_batch + token % PAGE_TOKENS * params.v_token;
}
