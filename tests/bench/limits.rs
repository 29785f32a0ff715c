//! Which peak binds.

use crate::roofline::*;

#[test]
fn the_slower_of_both_peaks_binds() {
    let peak = |rate| Peak {
        rate,
        variant: String::new(),
        variants: vec![],
    };
    let peaks = Peaks {
        fma: peak(100.0),
        fma_f16: None,
        read: peak(10.0),
    };
    let limit = |flops, bytes| {
        let limit = peaks.limit(flops, bytes);
        (limit.name, limit.seconds)
    };
    assert_eq!(limit(1000, 10), ("FMA", 10.0));
    assert_eq!(limit(1000, 1000), ("read", 100.0));
}
