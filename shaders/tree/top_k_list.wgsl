// The k best of many, by one workgroup. Every invocation knows the best of its own share; the k-th best of
// those is a bound that at least k candidates reach, and only candidates of k shares can reach it. These
// few are listed, and a candidate's rank is the number of listed ones that beat it: no sorting, and the
// same result in whatever order the list was filled.

var<workgroup> share_best: array<Ranked, WORKGROUP_X>;
var<workgroup> listed: array<Ranked, LIST>;
var<workgroup> listed_count: atomic<u32>;
var<workgroup> bound: Ranked;      // the k-th best of the shares' best
var<workgroup> best: Ranked;
var<workgroup> sums: array<f32, WORKGROUP_X>;

// What a share without a candidate has: beaten by every candidate, and different in every invocation.
fn nothing(lane: u32) -> Ranked {
    return Ranked(NO_KEY, NONE - WORKGROUP_X + lane);
}

// Sets bound and best; ends with a barrier.
fn find_bound(own: Ranked, k: u32, lane: u32) {
    share_best[lane] = own;
    if lane == 0u {
        atomicStore(&listed_count, 0u);
    }
    workgroupBarrier(); // orders every share's best before they are compared
    var rank = 0u;
    for (var i = 0u; i < WORKGROUP_X; i++) {
        rank += u32(beats(share_best[i], own));
    }
    if rank == k - 1u {
        bound = own;
    }
    if rank == 0u {
        best = own;
    }
    workgroupBarrier(); // orders bound and best before their reads
}

// Lists a candidate if it reaches the bound.
fn list(candidate: Ranked) {
    if candidate.key != NO_KEY && !beats(bound, candidate) {
        let place = atomicAdd(&listed_count, 1u);
        listed[min(place, LIST - 1u)] = candidate;
    }
}

// How many listed candidates beat this one.
fn rank_of(candidate: Ranked, count: u32) -> u32 {
    var rank = 0u;
    for (var i = 0u; i < count; i++) {
        rank += u32(beats(listed[i], candidate));
    }
    return rank;
}

// The sum over all invocations, in fixed order; known to the first one. Every invocation must call it.
fn sum_of(own: f32, lane: u32) -> f32 {
    sums[lane] = own;
    workgroupBarrier(); // orders every part before the first step
    var sum = 0.0;
    if lane < 16u {
        for (var i = 0u; i < WORKGROUP_X / 16u; i++) {
            sum += sums[i * 16u + lane];
        }
    }
    workgroupBarrier(); // orders the reads of the first step before its results
    sums[lane] = sum;
    workgroupBarrier(); // orders the first step before the second
    if lane == 0u {
        for (var i = 1u; i < 16u; i++) {
            sum += sums[i];
        }
    }
    return sum;
}
