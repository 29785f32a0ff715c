// Values of each query head: x is the ALiBi slope, y the attention sink, both times log2(e).

@group(0) @binding(HEADS_BINDING) var<uniform> head_values: array<vec4<f32>, MAX_HEADS>;
