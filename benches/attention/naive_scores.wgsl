// First pass: one invocation a score.

@group(0) @binding(1) var<storage, read> query: array<Stored>;         // [query, head, quad]
@group(0) @binding(2) var<storage, read> key: array<Stored>;           // [kv_head, key, quad]
@group(0) @binding(3) var<storage, read_write> scores: array<f32>;     // [head, query, key]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= visible_keys(id.y) {
        return; // the other passes do not look there
    }
    let head = params.first_head + id.z;
    let q = (id.y * params.heads + head) * params.quads;
    let k = (head / params.group * params.keys + id.x) * params.quads;
    var sum = 0.0;
    for (var i = 0u; i < params.quads; i++) {
        sum += dot(loaded(query[q + i]), loaded(key[k + i]));
    }
    scores[(id.z * params.queries + id.y) * params.keys + id.x] = sum * params.scale;
}
