//! What a case costs at the least.

use sunfleck::attention::Element;

use crate::cases::*;

const F32: Element = Element::F32;
const F16: Element = Element::F16;

#[test]
fn causal_counts_visible_pairs_only() {
    let mut small = case("prefill", F32, 2, 1, 4, 3, 5, true);
    assert_eq!(small.visible_pairs(), 3 + 4 + 5);
    assert_eq!(small.flops(), 4 * 2 * 12 * 4);
    small.causal = false;
    assert_eq!(small.visible_pairs(), 15);
}

#[test]
fn queries_before_the_first_key_see_nothing() {
    assert_eq!(case("prefill", F32, 1, 1, 4, 5, 2, true).visible_pairs(), 3);
}

#[test]
fn decoding_moves_the_cache_once() {
    let decode = case("decode", F16, 32, 8, 128, 1, 8192, true);
    assert_eq!(decode.bytes(), 2 * 2 * (32 * 128 + 8192 * 8 * 128));
    assert_eq!(decode.flops(), 4 * 32 * 8192 * 128);
}

#[test]
fn every_case_has_its_own_name() {
    for software in [false, true] {
        let mut names: Vec<_> = cases(software).iter().map(Case::name).collect();
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
    assert_eq!(
        case("decode", F16, 32, 8, 128, 1, 8192, true).name(),
        "decode/f16/h32-8/d128/1x8192/causal"
    );
}
