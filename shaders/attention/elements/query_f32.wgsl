// Query elements stored as f32.

alias StoredQuery = vec4<f32>; // four elements

fn query_quad(stored: StoredQuery) -> vec4<f32> {
    return stored;
}
