//! What ran in turns, and ratios that hold on a machine that changes its speed: each is the median
//! over turns, within which both sides had the same machine.

use crate::{
    clock::{Clock, Sample},
    statistics::Spread,
};

/// Samples that followed each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Turn {
    /// This crate's kernels.
    pub ours: Sample,
    /// The rival, unless it paused.
    pub rival: Option<Sample>,
    /// The peaks, unless they paused.
    pub peaks: Option<PeakSamples>,
}

/// Samples of the peaks in one turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeakSamples {
    /// Multiply-adds.
    pub fma: Sample,
    /// The streaming read.
    pub read: Sample,
    /// Products of matrices, where the kernel computes with them.
    pub matrix: Option<Sample>,
}

/// Samples of one side in all turns.
pub fn samples(turns: &[Turn], side: impl Fn(&Turn) -> Option<Sample>) -> Vec<Sample> {
    turns.iter().filter_map(side).collect()
}

/// How often the time of a call of this crate's kernels goes into that of `side`.
pub fn ratio(turns: &[Turn], side: impl Fn(&Turn) -> Option<Sample>) -> Option<f64> {
    let own_clock = Clock::for_samples(&samples(turns, |turn| Some(turn.ours)));
    let clock = Clock::for_samples(&samples(turns, &side));
    let per_call = |sample: Sample, clock| sample.seconds(clock) / sample.calls as f64;
    let ratios = turns
        .iter()
        .filter_map(|turn| Some(per_call(side(turn)?, clock) / per_call(turn.ours, own_clock)));
    Some(Spread::of(ratios.collect())?.median)
}
