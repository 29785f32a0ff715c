// The order in which candidates are better: larger numbers first, of equal ones the lower index. Numbers
// are compared as integers that ascend with them, which no compiler can take liberties with; NaN and -inf
// are no candidates. Twin: reference::tree::order.

const NONE: u32 = 0xffffffffu;
const NO_KEY: u32 = 0u; // of what is no candidate

struct Ranked {
    key: u32,
    index: u32,
}

// An integer that ascends with the number whose bits these are; NO_KEY for NaN and -inf.
fn key_of(bits: u32) -> u32 {
    let is_number = (bits & 0x7fffffffu) <= 0x7f800000u && bits != 0xff800000u;
    let b = select(bits, 0u, bits == 0x80000000u); // the two zeros are equal
    let key = select(b | 0x80000000u, ~b, (b >> 31u) == 1u);
    return select(NO_KEY, key, is_number);
}

// The bits of the number whose key this is.
fn bits_of(key: u32) -> u32 {
    return select(~key, key & 0x7fffffffu, (key >> 31u) == 1u);
}

// The number of a key as a finite one: infinity counts as the largest finite number.
fn finite_number(key: u32) -> f32 {
    return bitcast<f32>(bits_of(min(key, 0xff7fffffu)));
}

fn beats(a: Ranked, b: Ranked) -> bool {
    return a.key > b.key || (a.key == b.key && a.index < b.index);
}
