// Storage of Q, K, V and O as f32.

alias Stored = vec4<f32>;

fn loaded(quad: Stored) -> vec4<f32> {
    return quad;
}

fn stored(quad: vec4<f32>) -> Stored {
    return quad;
}
