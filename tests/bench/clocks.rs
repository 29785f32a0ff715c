//! Which clock is believed.

use crate::clock::*;

fn sample(wall: f64, gpu: Option<f64>) -> Sample {
    Sample {
        calls: 1,
        wall,
        gpu,
    }
}

#[test]
fn timestamps_that_agree_are_used() {
    let samples = [sample(0.020, Some(0.0195)); 3];
    assert_eq!(Clock::for_samples(&samples), Clock::Timestamps);
    assert_eq!(Clock::Timestamps.warning(&samples), None);
}

#[test]
fn one_late_wake_up_of_ten_is_forgiven() {
    let mut samples = [sample(0.020, Some(0.0195)); 10];
    samples[3].wall = 0.1;
    assert_eq!(Clock::for_samples(&samples), Clock::Timestamps);
    samples[4].wall = 0.1;
    assert_eq!(Clock::for_samples(&samples), Clock::Wall);
}

#[test]
fn wrong_and_missing_timestamps_fall_back_to_the_wall_clock_and_say_so() {
    for (gpu, word) in [(Some(0.001), "5 %"), (Some(0.040), "200 %"), (None, "no")] {
        let samples = [sample(0.020, gpu)];
        let clock = Clock::for_samples(&samples);
        assert_eq!(clock, Clock::Wall);
        assert!(clock.warning(&samples).unwrap().contains(word));
    }
}
