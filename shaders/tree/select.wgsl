// The best `count` entries of a range of the pool, ties to the lower index: four passes over 8 bits of
// the keys each. Twin: reference::tree::dynamic.

var<workgroup> histogram: array<atomic<u32>, 256>;
var<workgroup> chosen: vec2<u32>; // the digit that the bound has, and how many of that digit are taken
var<workgroup> lane_counts: array<vec2<u32>, WORKGROUP_X>; // above the bound, and at it

// Entries above `key`, and the first `ties` with this key.
struct Bound {
    key: u32,
    ties: u32,
}

fn bound_of(keys: u32, begin: u32, end: u32, count: u32, lane: u32) -> Bound {
    var key = 0u;
    var left = count;
    for (var pass_number = 0u; pass_number < 4u; pass_number++) {
        let shift = 24u - 8u * pass_number;
        for (var i = lane; i < 256u; i += WORKGROUP_X) {
            atomicStore(&histogram[i], 0u);
        }
        workgroupBarrier(); // orders the zeros before the counts
        for (var i = begin + lane; i < end; i += WORKGROUP_X) {
            let own = pool[keys + i];
            // A shift by 32 is none of WGSL's: the first pass has no digits above.
            let above = select((own ^ key) >> (min(shift, 16u) + 8u), 0u, pass_number == 0u);
            if own != NO_KEY && above == 0u {
                atomicAdd(&histogram[(own >> shift) & 255u], 1u);
            }
        }
        workgroupBarrier(); // orders the counts before the scan
        if lane == 0u {
            var rest = left;
            var digit = 255u;
            loop {
                let here = atomicLoad(&histogram[digit]);
                if here >= rest || digit == 0u {
                    break;
                }
                rest -= here;
                digit--;
            }
            chosen = vec2(digit, rest);
        }
        workgroupBarrier(); // orders the digit before its reads
        key |= chosen.x << shift;
        left = chosen.y;
    }
    return Bound(key, left);
}

// First entry of this invocation's share of the range.
fn share(begin: u32, end: u32, lane: u32) -> u32 {
    let size = (end - begin + WORKGROUP_X - 1u) / WORKGROUP_X;
    return min(begin + lane * size, end);
}

// Counts the entries of all shares; ends with a barrier. Returns what lies before this invocation's share.
fn counts_before(keys: u32, begin: u32, end: u32, bound: Bound, lane: u32) -> vec2<u32> {
    var own = vec2(0u);
    for (var i = share(begin, end, lane); i < share(begin, end, lane + 1u); i++) {
        let key = pool[keys + i];
        own += vec2(u32(key > bound.key), u32(key == bound.key && key != NO_KEY));
    }
    lane_counts[lane] = own;
    workgroupBarrier(); // orders the counts before the sums
    var before = vec2(0u);
    for (var i = 0u; i < lane; i++) {
        before += lane_counts[i];
    }
    return before;
}

// Entries taken of those counted.
fn taken(counts: vec2<u32>, bound: Bound) -> u32 {
    return counts.x + min(counts.y, bound.ties);
}
