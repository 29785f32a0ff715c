// Rotation of neighbours: pair i is elements 2i and 2i + 1 (GGUF files of Llama models).

fn elements_of(pair: u32) -> vec2<u32> {
    return vec2(2u * pair, 2u * pair + 1u);
}

fn pair_of(element: u32) -> u32 {
    return element / 2u;
}
