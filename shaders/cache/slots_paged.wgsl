// Where a token lies in a paged cache: the page table lists the pages of each sequence. An entry that
// is no page of the pool (nothing was reserved there) gives no slot, so that a length which is too large
// never writes into another sequence's page.

fn slot_of(sequence: u32, token: u32) -> u32 {
    let entry = token >> params.page_shift;
    if entry >= params.table_stride {
        return NO_SLOT;
    }
    let page = page_table[sequence * params.table_stride + entry];
    let pages = params.slots >> params.page_shift;
    let inside = token & ((1u << params.page_shift) - 1u);
    return select(NO_SLOT, (page << params.page_shift) + inside, page < pages);
}

// Tokens of the sequence before its first slot.
fn position_base(sequence: u32) -> u32 {
    return sequences[sequence].position_base;
}
