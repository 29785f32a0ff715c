// The quad of lane `j`, in every lane of a subgroup of 8. A broadcast needs a constant lane.

fn spread(quad: vec4<f32>, j: u32) -> vec4<f32> {
    switch j {
        case 0u: { return subgroupBroadcast(quad, 0u); }
        case 1u: { return subgroupBroadcast(quad, 1u); }
        case 2u: { return subgroupBroadcast(quad, 2u); }
        case 3u: { return subgroupBroadcast(quad, 3u); }
        case 4u: { return subgroupBroadcast(quad, 4u); }
        case 5u: { return subgroupBroadcast(quad, 5u); }
        case 6u: { return subgroupBroadcast(quad, 6u); }
        default: { return subgroupBroadcast(quad, 7u); }
    }
}
