// The cut-off of a row among candidates: each is compared with all others, so that the order in which they lie does not
// matter, and weights are summed as integers.

// A weight of at most 1 as two integers that sums of all candidates fit in: units of 2^-20 and of 2^-40.
const UNIT_BITS: u32 = 20u;
const UNITS: f32 = 1048576.0;

struct Candidate {
    key: u32,
    token: u32,
    weight: vec2<u32>,
}

var<workgroup> candidates: array<Candidate, MAX_CANDIDATES>;
var<workgroup> mass: array<atomic<u32>, 2>;   // of what top-k keeps
var<workgroup> kept: array<atomic<u32>, 2>;   // of what is kept in the end
var<workgroup> cut: atomic<u32>;
var<workgroup> cut_last: atomic<u32>;

fn integers(weight: f32) -> vec2<u32> {
    let scaled = min(weight, 1023.0) * UNITS;
    let high = u32(scaled);
    return vec2(high, u32((scaled - f32(high)) * UNITS));
}

fn carried(sum: vec2<u32>) -> vec2<u32> {
    return vec2(sum.x + (sum.y >> UNIT_BITS), sum.y & ((1u << UNIT_BITS) - 1u));
}

fn float_of(sum: vec2<u32>) -> f32 {
    let whole = carried(sum);
    return fma(f32(whole.y), 1.0 / UNITS, f32(whole.x)) / UNITS;
}

fn is_less(a: vec2<u32>, b: vec2<u32>) -> bool {
    let lesser = carried(a);
    let greater = carried(b);
    return lesser.x < greater.x || (lesser.x == greater.x && lesser.y < greater.y);
}

fn from_key(key: u32) -> f32 {
    return bitcast<f32>(select(~key, key & 0x7fffffffu, (key & 0x80000000u) != 0u));
}

// Number and weight of the candidates that are likelier.
struct Rank {
    number: u32,
    weight: vec2<u32>,
}

fn with_rank(rank: Rank, candidate: Candidate, other: Candidate) -> Rank {
    let likelier = other.key > candidate.key || (other.key == candidate.key && other.token < candidate.token);
    return Rank(
        rank.number + select(0u, 1u, likelier), rank.weight + select(vec2(0u), other.weight, likelier));
}

// Four a turn: lavapipe ends the loops of an invocation after 65,535 turns in all.
fn rank_of(candidate: Candidate, count: u32) -> Rank {
    var rank = Rank(0u, vec2(0u));
    for (var i = 0u; i < count; i += 4u) {
        rank = with_rank(rank, candidate, candidates[i]);
        rank = with_rank(rank, candidate, candidates[i + 1u]);
        rank = with_rank(rank, candidate, candidates[i + 2u]);
        rank = with_rank(rank, candidate, candidates[i + 3u]);
    }
    return rank;
}

// Four candidates a turn are compared: those past the last are less likely than any.
fn end_candidates(count: u32, lane: u32) {
    if lane < 3u && count + lane < MAX_CANDIDATES {
        candidates[count + lane] = Candidate(0u, NONE, vec2(0u));
    }
    workgroupBarrier(); // orders the candidates before they are compared
}

// Before `decide`, by one invocation.
fn begin_sums() {
    for (var i = 0u; i < 2u; i++) {
        atomicStore(&mass[i], 0u);
        atomicStore(&kept[i], 0u);
    }
    atomicStore(&cut, 0xffffffffu);
    atomicStore(&cut_last, 0u);
}

// Writes the cut-off of a row that lies among the first `count` candidates. `before` is the weight of what is likelier
// than all of them; without top-k, `share` is the weight that is wanted in all.
fn decide(row: u32, settings: Settings, count: u32, before: f32, share: f32, lane: u32) {
    let whole = row_stat(row);
    let by_number = by_count(settings);
    let most = select(0xffffffffu, settings.top_k, by_number);
    var wanted = share;
    // What top-p wants of what top-k keeps.
    if by_number && settings.top_p == 1.0 {
        wanted = 2.0 * f32(params.vocabulary);
    } else if by_number {
        for (var i = lane; i < count; i += WORKGROUP_X) {
            let candidate = candidates[i];
            if rank_of(candidate, count).number < most {
                atomicAdd(&mass[0], candidate.weight.x);
                atomicAdd(&mass[1], candidate.weight.y);
            }
        }
        workgroupBarrier(); // orders the sums before they are read
        wanted = settings.top_p * float_of(vec2(atomicLoad(&mass[0]), atomicLoad(&mass[1])));
    }
    let left = max(integers(max(wanted - before, 0.0)), vec2(0u, 1u));
    let bar = select(0u, key_of(bar_of(settings, whole.max)), settings.min_p > 0.0);
    var stays = 0u; // one bit a candidate of this invocation, of which there are at most 24
    for (var i = lane; i < count; i += WORKGROUP_X) {
        let candidate = candidates[i];
        let rank = rank_of(candidate, count);
        if rank.number < most && is_less(rank.weight, left) && candidate.key >= bar {
            stays |= 1u << (i / WORKGROUP_X);
            atomicAdd(&kept[0], candidate.weight.x);
            atomicAdd(&kept[1], candidate.weight.y);
            atomicMin(&cut, candidate.key);
        }
    }
    workgroupBarrier(); // orders the least key before its tokens
    let least = atomicLoad(&cut);
    for (var i = lane; i < count; i += WORKGROUP_X) {
        if candidates[i].key == least && ((stays >> (i / WORKGROUP_X)) & 1u) == 1u {
            atomicMax(&cut_last, candidates[i].token);
        }
    }
    workgroupBarrier(); // orders the last token before it is read
    if lane == 0u {
        let sum = before + float_of(vec2(atomicLoad(&kept[0]), atomicLoad(&kept[1])));
        // With nothing kept of the bin, every bin before it is.
        let nothing = least == 0xffffffffu;
        let end = Row(whole.max, sum, select(least, bar, nothing), select(atomicLoad(&cut_last), NONE, nothing));
        if ROW_KIND == 1u {
            nodes[row].drafted = end;
        } else {
            nodes[row].after = end;
        }
    }
}
