// Second pass: one workgroup a row, in place.

@group(0) @binding(1) var<storage, read_write> scores: array<f32>; // [head, query, key]

const THREADS: u32 = 64u;
var<workgroup> shared_values: array<f32, THREADS>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = (group.y * params.queries + group.x) * params.keys;
    let end = visible_keys(group.x);

    var maximum = -1e30;
    for (var i = thread; i < end; i += THREADS) {
        maximum = max(maximum, scores[row + i]);
    }
    shared_values[thread] = maximum;
    workgroupBarrier(); // orders the maxima before their reads
    for (var i = 0u; i < THREADS; i++) {
        maximum = max(maximum, shared_values[i]);
    }
    workgroupBarrier(); // orders the reads before the sums take their place

    var sum = 0.0;
    for (var i = thread; i < end; i += THREADS) {
        let weight = exp(scores[row + i] - maximum);
        scores[row + i] = weight;
        sum += weight;
    }
    shared_values[thread] = sum;
    workgroupBarrier(); // orders the sums before their reads
    var total = 0.0;
    for (var i = 0u; i < THREADS; i++) {
        total += shared_values[i];
    }
    for (var i = thread; i < end; i += THREADS) {
        scores[row + i] = scores[row + i] / total;
    }
}
