// Rotation of halves: pair i is elements i and i + pairs (GPT-NeoX; Qwen, safetensors files of Llama
// models).

fn elements_of(pair: u32) -> vec2<u32> {
    return vec2(pair, pair + params.rotated_pairs);
}

fn pair_of(element: u32) -> u32 {
    return element % params.rotated_pairs;
}
