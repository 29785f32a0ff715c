// Sums over the invocations of a workgroup.

var<workgroup> addends: array<f32, WORKGROUP_X>;
var<workgroup> sums: array<f32, 16>;

const SUMS: u32 = min(16u, WORKGROUP_X);

// The sum of every invocation's value, in one order whatever the device.
fn sum_all(value: f32, lane: u32) -> f32 {
    addends[lane] = value;
    workgroupBarrier(); // orders every value before the sums of 16
    if lane < SUMS {
        var sum = 0.0;
        for (var i = lane; i < WORKGROUP_X; i += SUMS) {
            sum += addends[i];
        }
        sums[lane] = sum;
    }
    workgroupBarrier(); // orders the 16 sums before all read them
    var sum = 0.0;
    for (var i = 0u; i < SUMS; i++) {
        sum += sums[i];
    }
    workgroupBarrier(); // orders the reads before the next call's writes
    return sum;
}
