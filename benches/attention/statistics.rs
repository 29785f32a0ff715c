//! What is left of many samples: median and spread.

/// Order statistics of some samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// A quarter is smaller.
    pub lower: f64,
    /// Half is smaller.
    pub median: f64,
    /// Three quarters are smaller.
    pub upper: f64,
    /// How many there were.
    pub count: usize,
}

impl Spread {
    /// Of `samples` in any order; `None` when there is none.
    pub fn of(mut samples: Vec<f64>) -> Option<Self> {
        if samples.is_empty() {
            return None;
        }
        samples.sort_by(f64::total_cmp);
        Some(Self {
            min: samples[0],
            lower: quantile(&samples, 0.25),
            median: quantile(&samples, 0.5),
            upper: quantile(&samples, 0.75),
            count: samples.len(),
        })
    }

    /// Half the distance of the quartiles, as a fraction of the median.
    pub fn relative(&self) -> f64 {
        (self.upper - self.lower) / 2.0 / self.median
    }
}

/// The value below which `fraction` of the sorted samples lie, with linear interpolation.
fn quantile(sorted: &[f64], fraction: f64) -> f64 {
    let at = fraction * (sorted.len() - 1) as f64;
    let below = sorted[at.floor() as usize];
    let above = sorted[at.ceil() as usize];
    below + (above - below) * at.fract()
}
