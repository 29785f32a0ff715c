// Groups of tokens whose maxima are kept, so that a search for likely tokens looks into few of them. Of a block that
// verify/rows.wgsl goes through with GROUP_LANES invocations, in turns of eight tokens an invocation, a group is what one
// invocation has in GROUP_TURNS turns.

const GROUP_STEP: u32 = 8u * GROUP_LANES * GROUP_TURNS; // tokens from a group of an invocation to its next one
const BLOCK_GROUPS: u32 = BLOCK / (8u * GROUP_TURNS);

fn group_at(row: u32, block: u32, group: u32) -> u32 {
    return params.groups_at + BLOCK_GROUPS * ((row * params.kinds + ROW_KIND) * params.blocks + block) + group;
}

// Groups of a whole row; some of the last may have no tokens.
fn row_groups() -> u32 {
    let over = params.vocabulary % BLOCK;
    return params.vocabulary / BLOCK * BLOCK_GROUPS + (over + GROUP_STEP - 1u) / GROUP_STEP * GROUP_LANES;
}

// The first token of a group counted over the whole row. It goes on with three more; then four from 4 GROUP_LANES later
// on; and so on in each turn.
fn group_start(group: u32) -> u32 {
    let within = group % BLOCK_GROUPS;
    return group / BLOCK_GROUPS * BLOCK + within / GROUP_LANES * GROUP_STEP + 4u * (within % GROUP_LANES);
}
