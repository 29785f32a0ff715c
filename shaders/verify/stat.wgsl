// What is known of a part of a row, and how two parts are joined.

struct Stat {
    top: f32,   // largest logit; LOWEST: no token has probability
    token: u32, // the lowest that has it
    sum: f32,   // of exp(z - top)
    slope: f32, // of exp(z - top) (top - z)
}

const NO_STAT: Stat = Stat(LOWEST, NONE, 0.0, 0.0);

// How far below the joint maximum a part's is. Further than this nothing is left in f32.
fn distance(top: f32, own: f32) -> f32 {
    return min(top - own, 150.0);
}

fn joined(a: Stat, b: Stat) -> Stat {
    let top = max(a.top, b.top);
    let to_a = distance(top, a.top);
    let to_b = distance(top, b.top);
    let share_a = exp(-to_a);
    let share_b = exp(-to_b);
    let b_wins = b.top > a.top || (b.top == a.top && b.token < a.token);
    let slope_a = share_a * fma(to_a, a.sum, a.slope);
    let slope_b = share_b * fma(to_b, b.sum, b.slope);
    return Stat(
        top, select(a.token, b.token, b_wins), fma(share_a, a.sum, share_b * b.sum), slope_a + slope_b);
}

// A part with one more token, in ascending order. The exponential is of the smaller less the larger logit,
// so that a token costs one, and a row is read once.
fn with_token(stat: Stat, z: f32, y: u32) -> Stat {
    let rises = z > stat.top;
    let far = distance(max(z, stat.top), min(z, stat.top));
    let share = select(exp(-far), 0.0, z <= LOWEST);
    let higher = Stat(z, y, fma(stat.sum, share, 1.0), share * fma(far, stat.sum, stat.slope));
    let lower = Stat(stat.top, stat.token, stat.sum + share, fma(share, far, stat.slope));
    return Stat(
        select(lower.top, higher.top, rises), select(lower.token, higher.token, rises),
        select(lower.sum, higher.sum, rises), select(lower.slope, higher.slope, rises));
}

var<workgroup> slots: array<Stat, SLOTS>;

// Joins all slots into the first, in one order whatever the device. SLOTS is a power of two.
fn join_slots(lane: u32) {
    for (var half = SLOTS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier(); // orders the slots before they are joined
        for (var i = lane; i < half; i += WORKGROUP_X) {
            slots[i] = joined(slots[i], slots[i + half]);
        }
    }
    workgroupBarrier(); // orders the first slot before all read it
}

// Where a block's statistics lie. `row` counts from the first of the bound part.
fn stat_at(row: u32, kind: u32, block: u32) -> u32 {
    return 4u * ((row * params.kinds + kind) * params.blocks + block);
}
