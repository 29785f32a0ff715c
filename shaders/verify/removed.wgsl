// Tokens that can't be drawn again, since a child of theirs was rejected: one bit a token of a block.

var<workgroup> removed: array<atomic<u32>, REMOVED_WORDS>;

const REMOVED_WORDS: u32 = BLOCK / 32u;

// Marks the tokens from `begin` on of the children of `node` before `limit`.
fn mark_removed(request: u32, node: u32, limit: u32, begin: u32, lane: u32) {
    workgroupBarrier(); // orders what was read of the block before
    for (var i = lane; i < REMOVED_WORDS; i += WORKGROUP_X) {
        atomicStore(&removed[i], 0u);
    }
    workgroupBarrier(); // orders the zeros before the marks
    for (var i = node + 1u + lane; i < limit; i += WORKGROUP_X) {
        let place = token_of(request, i) - begin; // wraps below it
        if parent_of(request, i) == node && place < BLOCK {
            atomicOr(&removed[place / 32u], 1u << (place % 32u));
        }
    }
    workgroupBarrier(); // orders the marks before they are read
}

fn is_removed(place: u32) -> bool {
    return ((atomicLoad(&removed[place / 32u]) >> (place % 32u)) & 1u) == 1u;
}

// Which of four tokens are removed, of which the first is a multiple of four.
fn are_removed(place: u32) -> vec4<bool> {
    let bits = (vec4(atomicLoad(&removed[place / 32u])) >> (vec4(place % 32u) + vec4(0u, 1u, 2u, 3u))) & vec4(1u);
    return bits == vec4(1u);
}
