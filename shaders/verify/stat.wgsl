// What is known of a part of a row, and how two parts are joined.

struct Stat {
    top: f32,   // largest logit; LOWEST: no token has probability
    token: u32, // the lowest that has it
    sum: f32,   // of exp(z - top)
}

const NO_STAT: Stat = Stat(LOWEST, NONE, 0.0);

// exp(own - top) of the maximum of a part and that of both. Below exp(-104) f32 holds nothing; the bound keeps
// infinities out.
fn share(top: f32, own: f32) -> f32 {
    return exp(max(own - top, -150.0));
}

fn joined(a: Stat, b: Stat) -> Stat {
    let top = max(a.top, b.top);
    let b_wins = b.top > a.top || (b.top == a.top && b.token < a.token);
    return Stat(
        top, select(a.token, b.token, b_wins), fma(share(top, a.top), a.sum, share(top, b.top) * b.sum));
}

// A part with four more tokens, of which each is `step` after the one before, and after those that are in it.
// So a logit is read once, and four take five exponentials.
fn with_four(stat: Stat, z: vec4<f32>, y: u32, step: u32) -> Stat {
    let four = max(max(z.x, z.y), max(z.z, z.w));
    let top = max(stat.top, four);
    let weights = exp(max(z - vec4(top), vec4(-150.0)));
    let sum = (weights.x + weights.y) + (weights.z + weights.w);
    let first = select(select(select(3u, 2u, z.z == four), 1u, z.y == four), 0u, z.x == four);
    // Where there is no logit, the distance from the maximum is 0, and yet nothing weighs anything.
    return Stat(
        top, select(stat.token, y + first * step, four > stat.top),
        select(fma(share(top, stat.top), stat.sum, sum), 0.0, top <= LOWEST));
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
