// Where the keys and values of a head lie: at a stride, one after the other.

// What addresses of a sequence's keys and values of one KV head start from.
struct HeadRows {
    key: u32,
    value: u32,
}

fn head_rows(sequence: u32, kv_head: u32, keys: u32) -> HeadRows {
    let start = first_key(sequence, keys);
    let own = kv_head - params.first_kv_head;
    return HeadRows(
        sequence * params.k_batch + start * params.k_token + own * params.k_head,
        sequence * params.v_batch + start * params.v_token + own * params.v_head,
    );
}

// First unit of a token's key; the tokens of a tile follow it at a distance of `params.k_token`.
fn key_row(head: HeadRows, token: u32) -> u32 {
    return head.key + token * params.k_token;
}

// As `key_row` for values.
fn value_row(head: HeadRows, token: u32) -> u32 {
    return head.value + token * params.v_token;
}
