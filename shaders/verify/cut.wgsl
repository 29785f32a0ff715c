// The cut-off of a row by top-k, top-p and min-p, and what is left by it, where verify/choose.wgsl left it open:
// too many tokens lie about it; and the entropy of a row. One workgroup a row of the wave. Twin: reference::verify::processing.

var<workgroup> open: u32; // the place of a row that was left open

fn from_key(key: u32) -> f32 {
    return bitcast<f32>(select(~key, key & 0x7fffffffu, (key & 0x80000000u) != 0u));
}

// A part of a row in the order of likelihood: keys above `cut`, and of those that equal it tokens up to
// `last`.
struct Part {
    cut: u32,
    last: u32,
}

fn is_in(part: Part, key: u32, y: u32) -> bool {
    return key > part.cut || (key == part.cut && y <= part.last);
}

// Sums that are the same in whatever order they are made: integers of three limbs, of which the lower two
// count 2^-14 of the next. A weight of 1 is `ONE`, so that 2^18 tokens of it fit, and 2^18 remainders that
// are cut off below the last limb come to 2^-23 together. A number of tokens has only the first limb.
const LIMB: u32 = 16384u;
const LIMB_BITS: u32 = 14u;
const ONE: f32 = 8192.0;

fn limbs_of(weight: f32) -> vec3<u32> {
    let high = u32(weight);
    let below = (weight - f32(high)) * f32(LIMB);
    let middle = u32(below);
    return vec3(high, middle, u32((below - f32(middle)) * f32(LIMB)));
}

fn carried(sum: vec3<u32>) -> vec3<u32> {
    let middle = sum.y + (sum.z >> LIMB_BITS);
    return vec3(sum.x + (middle >> LIMB_BITS), middle % LIMB, sum.z % LIMB);
}

// Of carried sums.
fn is_less(a: vec3<u32>, b: vec3<u32>) -> bool {
    let lower = a.y < b.y || (a.y == b.y && a.z < b.z);
    return a.x < b.x || (a.x == b.x && lower);
}

// a - b of carried sums, b being at most a.
fn minus(a: vec3<u32>, b: vec3<u32>) -> vec3<u32> {
    let borrow_low = select(0u, 1u, a.z < b.z);
    let borrow = select(0u, 1u, a.y < b.y + borrow_low);
    return vec3(
        a.x - b.x - borrow,
        a.y + borrow * LIMB - b.y - borrow_low,
        a.z + borrow_low * LIMB - b.z,
    );
}

// Tokens are ordered by 50 bits, the key and then the distance from the last token, and found a digit at a
// time: four digits of 8 bits, two of 9.
const DIGIT_BINS: u32 = 512u;
const GROUPS: u32 = 16u; // of bins
const LAST_TOKEN: u32 = 0x3ffffu; // 2^18 tokens are the largest vocabulary
const KEY_DIGITS: u32 = 4u;
const DIGITS: u32 = 6u;

const SEARCHING: u32 = 0u;
const FOUND: u32 = 1u; // with every token of the same key
const WHOLE: u32 = 2u; // all of it comes to no more than what is wanted

struct Search {
    key: u32,       // the digits found so far
    distance: u32,
    state: u32,
    left: vec3<u32>, // what is wanted of the tokens that share these digits
}

var<workgroup> bins: array<atomic<u32>, 1536>; // [limb][bin]
var<workgroup> groups: array<vec3<u32>, GROUPS>;
var<workgroup> search: Search;

fn bin(index: u32) -> vec3<u32> {
    return vec3(
        atomicLoad(&bins[index]), atomicLoad(&bins[DIGIT_BINS + index]), atomicLoad(&bins[2u * DIGIT_BINS + index]));
}

// The weight of one token, or with `counts` its number.
fn weight_of(z: f32, top: f32, counts: bool) -> vec3<u32> {
    return select(limbs_of(min(exponential(z, top), 1.0) * ONE), vec3(1u, 0u, 0u), counts);
}

fn digit_of(level: u32, key: u32, y: u32) -> u32 {
    if level < KEY_DIGITS {
        return (key >> (24u - 8u * level)) % 256u;
    }
    return ((LAST_TOKEN - y) >> (9u * (DIGITS - 1u - level))) % 512u;
}

// Whether a token has the digits before `level` that were found.
fn shares(level: u32, found: Search, key: u32, y: u32) -> bool {
    if level == 0u {
        return true;
    }
    if level < KEY_DIGITS {
        return ((key ^ found.key) >> (32u - 8u * level)) == 0u;
    }
    let differs = (LAST_TOKEN - y) ^ found.distance;
    return key == found.key && (level == KEY_DIGITS || (differs >> 9u) == 0u);
}

// From the sums of this level's bins to the digit where what is left is reached. One invocation does it.
fn next_digit(level: u32, found: Search, top: f32, wanted: f32, counts: bool) -> Search {
    var next = found;
    if level == 0u {
        var total = vec3(0u);
        for (var i = 0u; i < GROUPS; i++) {
            total += groups[i];
        }
        let whole = carried(total);
        next.left = limbs_of(wanted);
        if !counts {
            let mass = fma(f32(whole.y), 1.0 / f32(LIMB), f32(whole.x));
            next.left = limbs_of(wanted * mass);
            let nothing = all(next.left == vec3(0u));
            next.left.z = select(next.left.z, 1u, nothing);
        }
        if !is_less(next.left, whole) {
            next.state = WHOLE;
            return next;
        }
    }
    var group = GROUPS - 1u;
    while group > 0u && is_less(carried(groups[group]), next.left) {
        next.left = minus(next.left, carried(groups[group]));
        group -= 1u;
    }
    var digit = (DIGIT_BINS / GROUPS) * group + DIGIT_BINS / GROUPS - 1u;
    while digit > (DIGIT_BINS / GROUPS) * group && is_less(carried(bin(digit)), next.left) {
        next.left = minus(next.left, carried(bin(digit)));
        digit -= 1u;
    }
    if level < KEY_DIGITS {
        next.key |= digit << (24u - 8u * level);
        if level == KEY_DIGITS - 1u {
            // All tokens of the bin have one key, so one weight. All are in when those but one fall short.
            let all_of_them = carried(bin(digit));
            let one = weight_of(from_key(next.key), top, counts);
            if !is_less(one, all_of_them) || is_less(minus(all_of_them, one), next.left) {
                next.state = FOUND;
            }
        }
    } else {
        next.distance |= digit << (9u * (DIGITS - 1u - level));
    }
    return next;
}

// The row, and the options by which it is cut.
struct Cut {
    source: Source,
    settings: Settings,
    top: f32,
}

// Adds a token to its bin, if it is in `within` and shares the digits that were found.
fn put(cut: Cut, within: Part, level: u32, found: Search, counts: bool, z: f32, y: u32) {
    let key = key_of(z);
    if z <= LOWEST || !is_in(within, key, y) || !shares(level, found, key, y) {
        return;
    }
    let digit = digit_of(level, key, y);
    let limbs = weight_of(z, cut.top, counts);
    if limbs.x > 0u {
        atomicAdd(&bins[digit], limbs.x);
    }
    if limbs.y > 0u {
        atomicAdd(&bins[DIGIT_BINS + digit], limbs.y);
    }
    if limbs.z > 0u {
        atomicAdd(&bins[2u * DIGIT_BINS + digit], limbs.z);
    }
}

// The smallest part of `within` that has the share `wanted` of its weight, or with `counts` so many of its
// tokens; all of it when it has no more. Goes through the row six times at most, four tokens a turn.
fn select_part(cut: Cut, within: Part, wanted: f32, counts: bool, lane: u32) -> Part {
    if lane == 0u {
        search = Search(0u, 0u, SEARCHING, vec3(0u));
    }
    var found = workgroupUniformLoad(&search);
    for (var level = 0u; level < DIGITS && found.state == SEARCHING; level++) {
        for (var i = lane; i < 3u * DIGIT_BINS; i += WORKGROUP_X) {
            atomicStore(&bins[i], 0u);
        }
        workgroupBarrier(); // orders the zeros before the sums
        for (var y = 4u * lane; y + 4u <= params.vocabulary; y += 4u * WORKGROUP_X) {
            let z = row_z_four(cut.source, cut.settings, y);
            put(cut, within, level, found, counts, z.x, y);
            put(cut, within, level, found, counts, z.y, y + 1u);
            put(cut, within, level, found, counts, z.z, y + 2u);
            put(cut, within, level, found, counts, z.w, y + 3u);
        }
        for (var y = params.vocabulary / 4u * 4u + lane; y < params.vocabulary; y += WORKGROUP_X) {
            put(cut, within, level, found, counts, row_z(cut.source, cut.settings, y), y);
        }
        workgroupBarrier(); // orders the bins before the sums of 16
        for (var group = lane; group < GROUPS; group += WORKGROUP_X) {
            var sum = vec3(0u);
            for (var i = 0u; i < DIGIT_BINS / GROUPS; i++) {
                sum += bin(group * (DIGIT_BINS / GROUPS) + i);
            }
            groups[group] = sum;
        }
        workgroupBarrier(); // orders the groups before the search
        if lane == 0u {
            search = next_digit(level, found, cut.top, wanted, counts);
        }
        found = workgroupUniformLoad(&search);
    }
    if found.state == WHOLE {
        return within;
    }
    // A key that is the bound of `within` has its tokens only up to there.
    let last = select(LAST_TOKEN - found.distance, NONE, found.state == FOUND);
    return Part(found.key, select(last, min(last, within.last), found.key == within.cut));
}

// The weight of a token of `part`, and its product with the distance from the maximum.
fn weigh(cut: Cut, part: Part, z: f32, y: u32) -> vec2<f32> {
    let weight = select(0.0, exponential(z, cut.top), is_in(part, key_of(z), y));
    return vec2(weight, weight * min(cut.top - z, 150.0));
}

// The first place from one on, as far apart as there are workgroups, of which the row was left open; the end where
// there is none.
fn next_open(request: u32, first: u32, step: u32) -> u32 {
    let end = rows_of_wave(request);
    var place = first;
    while place < end {
        let node = node_of_wave(request, place);
        let settings = row_settings(request);
        let at = search_at(request * params.max_nodes + node - params.first_row);
        if is_bound(request, node) && row_exists(request, node)
            && (wants_entropy(request) || (has_cut(settings) && scratch_word(at + SEARCH_STATE) == STATE_OPEN)) {
            break;
        }
        place += step;
    }
    return min(place, end);
}

fn cut_row(request: u32, node: u32, lane: u32) {
    let row = request * params.max_nodes + node;
    let settings = row_settings(request);
    let cuts_count = by_count(settings);
    let whole = row_stat(row);
    let top = whole.max;
    let cut = Cut(row_source(request, node), settings, top);
    var part = Part(0u, NONE);
    if cuts_count {
        part = select_part(cut, part, f32(settings.top_k), true, lane);
    }
    if settings.top_p < 1.0 {
        part = select_part(cut, part, settings.top_p, false, lane);
    }
    if settings.min_p > 0.0 {
        let bar = key_of(bar_of(settings, top));
        if bar > part.cut {
            part = Part(bar, NONE);
        }
    }
    var own = vec2(0.0);
    for (var y = 4u * lane; y + 4u <= params.vocabulary; y += 4u * WORKGROUP_X) {
        let z = row_z_four(cut.source, cut.settings, y);
        own += weigh(cut, part, z.x, y) + weigh(cut, part, z.y, y + 1u);
        own += weigh(cut, part, z.z, y + 2u) + weigh(cut, part, z.w, y + 3u);
    }
    for (var y = params.vocabulary / 4u * 4u + lane; y < params.vocabulary; y += WORKGROUP_X) {
        own += weigh(cut, part, row_z(cut.source, cut.settings, y), y);
    }
    let sum = sum_all(own.x, lane);
    let slope = sum_all(own.y, lane);
    if lane == 0u {
        let kept = Row(top, sum, part.cut, part.last);
        if ROW_KIND == 1u {
            nodes[row].drafted = kept;
        } else {
            nodes[row].after = kept;
            nodes[row].entropy = entropy_of(sum, slope);
        }
    }
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var first = group.x;
    while first < rows_of_wave(group.z) {
        if lane == 0u {
            open = next_open(group.z, first, groups.x);
        }
        let place = workgroupUniformLoad(&open);
        if place >= rows_of_wave(group.z) {
            break;
        }
        cut_row(group.z, node_of_wave(group.z, place), lane);
        first = place + groups.x;
    }
}
