// Where a token lies in a contiguous cache: every sequence owns `capacity` slots of each head.

fn slot_of(sequence: u32, token: u32) -> u32 {
    return select(NO_SLOT, sequence * params.capacity + token, token < params.capacity);
}

// Tokens of the sequence before its first slot.
fn position_base(sequence: u32) -> u32 {
    return 0u;
}

// Whether the commit moves the page of token `past + i` by changing the table.
fn moves_whole(path: u32, accepted: u32, past: u32, i: u32) -> bool {
    return false;
}
