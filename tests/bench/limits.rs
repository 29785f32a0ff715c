//! Which peak binds.

use crate::roofline::*;

fn rates(fma: f64, read: f64) -> Rates {
    Rates {
        fma,
        read,
        matrix: None,
    }
}

#[test]
fn the_slower_of_both_peaks_binds() {
    let limit = |flops, bytes| {
        let limit = rates(100.0, 10.0).limit(flops, bytes, false);
        (limit.name, limit.seconds)
    };
    assert_eq!(limit(1000, 10), ("FMA", 10.0));
    assert_eq!(limit(1000, 1000), ("read", 100.0));
}

#[test]
fn an_adapter_that_changed_its_speed_is_told() {
    let start = rates(100.0, 10.0);
    assert_eq!(drift(start, [rates(95.0, 11.0), start].into_iter()), None);
    let warning = drift(start, [rates(50.0, 10.0), rates(102.0, 10.0)].into_iter()).unwrap();
    assert!(warning.contains("50 % to 102 %"), "{warning}");
}
