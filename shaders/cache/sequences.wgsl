// What every cache kernel shares: how many rows a step has of each sequence. The layout is that of an
// attention call's lengths.

struct Sequence {
    rows: u32,          // tokens, or nodes of a draft tree
    past: u32,          // committed tokens before them
    first_row: u32,     // rows before the sequence's first one
    position_base: u32, // of a paged cache: tokens that were evicted before `past`
}

@group(0) @binding(1) var<storage, read> sequences: array<Sequence>;

// What `slot_of` gives for a token that has no place: nothing is written there.
const NO_SLOT: u32 = 0xffffffffu;
