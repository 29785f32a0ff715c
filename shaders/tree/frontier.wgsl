// The nodes that the draft model runs next. Of each request: (rows, keys before the first row, 0, 0), as the
// append and attention read them, then `width` words each: token; depth, less the first node's number, so
// that keys before + depth is the position; row of the parent in the level before; entry in the pool.

@group(0) @binding(3) var<storage, read_write> sequences: array<vec4<u32>>; // [request]
@group(0) @binding(4) var<storage, read_write> frontier: array<u32>; // [field, request, row]
@group(0) @binding(5) var<storage, read> lengths: array<vec4<u32>>; // [request]: (-, past, -, -)

fn frontier_word(field: u32, batch: u32, request: u32, row: u32) -> u32 {
    return field * ((batch * params.width + 63u) / 64u * 64u) + request * params.width + row;
}
