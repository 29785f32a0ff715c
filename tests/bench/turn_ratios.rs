//! Ratios of what ran in turns.

use crate::{clock::Sample, turns::*};

fn sample(calls: u64, seconds: f64) -> Sample {
    Sample {
        calls,
        wall: seconds,
        gpu: Some(seconds),
    }
}

#[test]
fn ratio_survives_a_machine_that_becomes_slower() {
    let turn = |slowness: f64| Turn {
        ours: sample(10, 0.02 * slowness),
        rival: Some(sample(2, 0.02 * slowness)),
        peaks: None,
    };
    let turns = [1.0, 1.0, 2.0, 2.0, 1.0, 2.0].map(turn);
    assert!((ratio(&turns, |turn| turn.rival).unwrap() - 5.0).abs() < 1e-12);
}

#[test]
fn turns_in_which_a_side_paused_do_not_count_for_it() {
    let mut turns = [Turn {
        ours: sample(1, 0.02),
        rival: None,
        peaks: None,
    }; 3];
    assert_eq!(ratio(&turns, |turn| turn.rival), None);
    turns[1].rival = Some(sample(1, 0.06));
    assert!((ratio(&turns, |turn| turn.rival).unwrap() - 3.0).abs() < 1e-12);
    assert_eq!(samples(&turns, |turn| turn.rival).len(), 1);
}
