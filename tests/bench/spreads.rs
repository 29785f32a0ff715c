//! Median and quartiles.

use crate::statistics::*;

#[test]
fn quartiles_interpolate() {
    let spread = Spread::of(vec![4.0, 1.0, 3.0, 2.0, 5.0]).unwrap();
    assert_eq!(
        (spread.min, spread.lower, spread.median, spread.upper),
        (1.0, 2.0, 3.0, 4.0)
    );
    assert_eq!(Spread::of(vec![1.0, 2.0]).unwrap().median, 1.5);
    assert_eq!(spread.relative(), 1.0 / 3.0);
}

#[test]
fn no_sample_has_no_spread() {
    assert_eq!(Spread::of(vec![]), None);
}
