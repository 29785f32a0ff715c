// Third pass: one invocation a vec4 of the output.

@group(0) @binding(1) var<storage, read> weights: array<f32>;          // [head, query, key]
@group(0) @binding(2) var<storage, read> value: array<Stored>;         // [kv_head, key, quad]
@group(0) @binding(3) var<storage, read_write> output: array<Stored>;  // [query, head, quad]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let query = id.x / params.quads;
    let quad = id.x % params.quads;
    if query >= params.queries {
        return;
    }
    let head = params.first_head + id.y;
    let row = (id.y * params.queries + query) * params.keys;
    let v = head / params.group * params.keys * params.quads + quad;
    let end = visible_keys(query);
    var sum = vec4(0.0);
    for (var i = 0u; i < end; i++) {
        sum += weights[row + i] * loaded(value[v + i * params.quads]);
    }
    output[(query * params.heads + head) * params.quads + quad] = stored(sum);
}
