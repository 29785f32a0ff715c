// Attention sinks (Xiao et al. 2023, as learned logits): one more term in the denominator of each
// head, with no value. Added once, where a row ends.

fn sink(head: u32) -> f32 {
    return head_values[head].y;
}
