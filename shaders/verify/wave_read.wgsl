// The rows that are worked on: see verify/wave_write.wgsl. A workgroup takes one of them after the other, as far apart as
// there are workgroups: a CPU runs all of a kernel even where it has nothing to do, so there they are few.

@group(0) @binding(WAVES_BINDING) var<storage, read> waves: array<u32>; // [request]

fn rows_of_wave(request: u32) -> u32 {
    return waves[request * (params.max_nodes + WAVE_HEADER)];
}

// Once the walk is over, the nodes on its path.
fn rows_of_path(request: u32) -> u32 {
    return waves[request * (params.max_nodes + WAVE_HEADER) + 1u];
}

// The node at a place of the wave or path, which is in it.
fn node_of_wave(request: u32, place: u32) -> u32 {
    return waves[request * (params.max_nodes + WAVE_HEADER) + WAVE_HEADER + place];
}

// The last node of the path.
fn end_of_path(request: u32) -> u32 {
    return waves[request * (params.max_nodes + WAVE_HEADER) + 2u];
}
