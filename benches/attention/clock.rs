//! Which of two clocks a figure comes from.
//!
//! Timestamps see the GPU's work alone, the wall clock also the submission and the wait. Over a sample
//! of some milliseconds both must tell the same; where they do not, the timestamps of that driver
//! are wrong or the GPU waited for the host, and the wall clock, which can't be too low, is used.

/// One sample: some calls in one submission.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Calls in the submission.
    pub calls: u64,
    /// Seconds from the submission to the end of the wait.
    pub wall: f64,
    /// Seconds between the timestamps at both ends of the pass, where there are any.
    pub gpu: Option<f64>,
}

impl Sample {
    /// Seconds of the sample on one of the clocks.
    pub fn seconds(&self, clock: Clock) -> f64 {
        match clock {
            Clock::Timestamps => self.gpu.unwrap_or(self.wall),
            Clock::Wall => self.wall,
        }
    }

    /// Whether both clocks agree, so that the timestamps can be believed.
    pub fn agrees(&self) -> bool {
        self.gpu
            .is_some_and(|gpu| (self.wall - gpu).abs() <= TOLERANCE * self.wall + OVERHEAD)
    }
}

/// How far the clocks may be apart, as a fraction, ...
const TOLERANCE: f64 = 0.05;
/// ... and in seconds on top: a submission and a wake-up.
const OVERHEAD: f64 = 0.5e-3;

/// A source of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Timestamps of the GPU.
    Timestamps,
    /// The host's clock.
    Wall,
}

impl Clock {
    /// The clock to read `samples` by: timestamps where each sample has them and nine of ten
    /// agree with the wall clock (the rest may have been woken late on a busy machine).
    pub fn for_samples(samples: &[Sample]) -> Self {
        let agreeing = samples.iter().filter(|sample| sample.agrees()).count();
        let complete = samples.iter().all(|sample| sample.gpu.is_some());
        if complete && agreeing * 10 >= samples.len() * 9 {
            Self::Timestamps
        } else {
            Self::Wall
        }
    }

    /// Why the wall clock was taken, where it was.
    pub fn warning(self, samples: &[Sample]) -> Option<String> {
        if self == Self::Timestamps || samples.is_empty() {
            return None;
        }
        if samples.iter().any(|sample| sample.gpu.is_none()) {
            return Some("wall clock: the adapter gave no timestamps".into());
        }
        let wall: f64 = samples.iter().map(|sample| sample.wall).sum();
        let gpu: f64 = samples.iter().filter_map(|sample| sample.gpu).sum();
        Some(format!(
            "wall clock: timestamps tell {:.0} % of it",
            gpu / wall * 100.0
        ))
    }

    /// Name in the JSON file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Timestamps => "timestamps",
            Self::Wall => "wall",
        }
    }
}
