// Logits read a word at a time.

@group(0) @binding(5) var<storage, read> target_logits: array<u32>; // rows from params.first_row on
@group(0) @binding(6) var<storage, read> draft_logits: array<u32>;  // rows from params.first_draft on

fn target_word(index: u32) -> u32 {
    return target_logits[index];
}

fn draft_word(index: u32) -> u32 {
    return draft_logits[index];
}

// Four words from one on.
fn target_quad(index: u32) -> vec4<u32> {
    return vec4(
        target_logits[index], target_logits[index + 1u], target_logits[index + 2u], target_logits[index + 3u]);
}

fn draft_quad(index: u32) -> vec4<u32> {
    return vec4(draft_logits[index], draft_logits[index + 1u], draft_logits[index + 2u], draft_logits[index + 3u]);
}
