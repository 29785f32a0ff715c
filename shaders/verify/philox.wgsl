// Philox4x32-10 (Salmon et al. 2011): the same words as reference::philox.

// High and low word of a * b, from 16-bit halves.
fn widening_multiply(a: u32, b: u32) -> vec2<u32> {
    let a_high = a >> 16u;
    let a_low = a & 0xffffu;
    let b_high = b >> 16u;
    let b_low = b & 0xffffu;
    let low = a_low * b_low;
    let middle = a_high * b_low + (low >> 16u);
    let cross_sum = a_low * b_high + (middle & 0xffffu);
    let high = a_high * b_high + (middle >> 16u) + (cross_sum >> 16u);
    return vec2(high, (cross_sum << 16u) | (low & 0xffffu));
}

fn philox4x32_10(counter: vec4<u32>, key: vec2<u32>) -> vec4<u32> {
    var c = counter;
    var k = key;
    for (var i = 0u; i < 10u; i++) {
        let first = widening_multiply(0xd2511f53u, c.x);
        let second = widening_multiply(0xcd9e8d57u, c.z);
        c = vec4(second.x ^ c.y ^ k.x, second.y, first.x ^ c.w ^ k.y, first.y);
        k += vec2(0x9e3779b9u, 0xbb67ae85u);
    }
    return c;
}

// In [0, 1): the upper 24 bits, which f32 holds exactly.
fn uniform_number(word: u32) -> f32 {
    return f32(word >> 8u) * (1.0 / 16777216.0);
}

const PURPOSE_ACCEPT: u32 = 1u;
const PURPOSE_SAMPLE: u32 = 2u;
const PURPOSE_BLOCK: u32 = 3u;
const PURPOSE_TRAVERSAL: u32 = 4u;
