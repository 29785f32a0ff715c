// The part of the commit that moves whole pages: exchanges their entries in the page table, one
// invocation a sequence. A page that is taken over lies past all that is kept, so no page takes part in
// two exchanges.

struct RemapParams {
    outcome_stride: u32, // words from one sequence's outcome to the next
    max_nodes: u32,      // most nodes of a path
    page_shift: u32,     // log2 of a page's tokens
    table_stride: u32,   // entries of a sequence in the page table
}

@group(0) @binding(0) var<uniform> params: RemapParams;
@group(0) @binding(2) var<storage, read> outcome: array<u32>; // [sequence]: accepted, flags, path
@group(0) @binding(3) var<storage, read_write> page_table: array<u32>; // [sequence, entry]

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(@builtin(workgroup_id) group: vec3<u32>) {
    let sequence = group.x;
    if sequences[sequence].rows == 0u {
        return;
    }
    let past = sequences[sequence].past;
    let path = sequence * params.outcome_stride + 2u;
    let accepted = min(outcome[path - 2u], params.max_nodes - 1u);
    let size = 1u << params.page_shift;
    // The first page after the one that holds the root, or that of the root where it is the first token.
    for (var i = (size - (past & (size - 1u))) & (size - 1u); i <= accepted; i += size) {
        if !moves_whole(path, accepted, past, i) {
            continue;
        }
        let to = sequence * params.table_stride + ((past + i) >> params.page_shift);
        let origin = sequence * params.table_stride + ((past + outcome[path + i]) >> params.page_shift);
        let end = (sequence + 1u) * params.table_stride;
        if to < end && origin < end {
            let page = page_table[to];
            page_table[to] = page_table[origin];
            page_table[origin] = page;
        }
    }
}
