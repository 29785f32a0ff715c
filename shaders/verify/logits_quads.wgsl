// Logits of rows that begin at multiples of four words, read four words at a time.

@group(0) @binding(5) var<storage, read> target_logits: array<vec4<u32>>; // rows from params.first_row on
@group(0) @binding(6) var<storage, read> draft_logits: array<vec4<u32>>;  // rows from params.first_draft on

fn target_word(index: u32) -> u32 {
    return target_logits[index / 4u][index % 4u];
}

fn draft_word(index: u32) -> u32 {
    return draft_logits[index / 4u][index % 4u];
}

// Four words from a multiple of four on.
fn target_quad(index: u32) -> vec4<u32> {
    return target_logits[index / 4u];
}

fn draft_quad(index: u32) -> vec4<u32> {
    return draft_logits[index / 4u];
}
