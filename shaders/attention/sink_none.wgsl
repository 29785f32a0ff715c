// No attention sinks.

fn sink(head: u32) -> f32 {
    return MASKED;
}
