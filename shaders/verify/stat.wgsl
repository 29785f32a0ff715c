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

const TURN: u32 = 8u * WORKGROUP_X;

// Where the first of four numbers is that equals `wanted`; one of them does.
fn place_of(wanted: f32, z: vec4<f32>) -> u32 {
    return select(select(select(3u, 2u, z.z == wanted), 1u, z.y == wanted), 0u, z.x == wanted);
}

fn top_of(a: vec4<f32>, b: vec4<f32>) -> f32 {
    let pairs = max(a, b);
    return max(max(pairs.x, pairs.y), max(pairs.z, pairs.w));
}

// A part with eight more tokens, four from `y` on and four from 4 WORKGROUP_X later on, after those that are in it. So a
// logit is read once, and eight take nine exponentials.
fn with_eight(stat: Stat, a: vec4<f32>, b: vec4<f32>, y: u32) -> Stat {
    let eight = top_of(a, b);
    let top = max(stat.top, eight);
    let weights = exp(max(a - vec4(top), vec4(-150.0))) + exp(max(b - vec4(top), vec4(-150.0)));
    let sum = (weights.x + weights.y) + (weights.z + weights.w);
    let in_a = any(a == vec4(eight));
    let first = select(4u * WORKGROUP_X + place_of(eight, b), place_of(eight, a), in_a);
    // Where there is no logit, the distance from the maximum is 0, and yet nothing weighs anything.
    return Stat(
        top, select(stat.token, y + first, eight > stat.top),
        select(fma(share(top, stat.top), stat.sum, sum), 0.0, top <= LOWEST));
}

var<workgroup> slots: array<Stat, SLOTS>;

// Joins the first `count` slots into the first, in one order whatever the device. `count` is a power of two.
fn join_slots(count: u32, lane: u32) {
    for (var half = count / 2u; half > 0u; half /= 2u) {
        workgroupBarrier(); // orders the slots before they are joined
        for (var i = lane; i < half; i += WORKGROUP_X) {
            slots[i] = joined(slots[i], slots[i + half]);
        }
    }
    workgroupBarrier(); // orders the first slot before all read it
}

// Where a block's statistics lie. `row` counts from the first of the bound part.
fn stat_at(row: u32, kind: u32, block: u32) -> u32 {
    return STAT_WORDS * ((row * params.kinds + kind) * params.blocks + block);
}
