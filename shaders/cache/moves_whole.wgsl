// Whole pages of an accepted path: where the tokens of one page of the sequence all come from
// another page, in the same places, the table is changed instead of the slots. `remap.wgsl` does so after the
// commit, which leaves those slots alone; both ask here.

// Whether the page of token `past + i` takes over another page as it is.
fn moves_whole(path: u32, accepted: u32, past: u32, i: u32) -> bool {
    let mask = (1u << params.page_shift) - 1u;
    let inside = (past + i) & mask;
    // Node 0 stays where it is, so a page that holds it does not move.
    if inside >= i || i - inside + mask > accepted {
        return false;
    }
    // Nodes ascend: where the last is as far from the first as it can be at least, all follow each other.
    let first = outcome[path + i - inside];
    let last = outcome[path + i - inside + mask];
    // The page that is taken over must lie past all that is kept: no other token moves into it.
    return first > accepted && last - first == mask && ((past + first) & mask) == 0u;
}
