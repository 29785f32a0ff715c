// How far the search for the cut-off of a row has come.

var<workgroup> found_state: u32;

// For all invocations the same, which a barrier after it asks for.
fn search_state(row: u32, lane: u32) -> u32 {
    if lane == 0u {
        found_state = scratch_word(search_at(row) + SEARCH_STATE);
    }
    return workgroupUniformLoad(&found_state);
}
