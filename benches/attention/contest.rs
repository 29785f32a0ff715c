//! One case: this crate's kernels and the rival on the same tensors, checked against each other and
//! sampled in turns.

use std::time::Duration;

use sunfleck::{
    attention::{AttentionError, AttentionIo},
    reference::compare::nmse,
};

use crate::{
    adapter::BenchGpu,
    cases::Case,
    clock::Sample,
    kernel_names,
    peaks::{Yardstick, stream_bytes},
    rival,
    roofline::Rates,
    tensors::{self, Tensors},
    timing::{Timer, Work, best},
};

/// Samples that a median should have, where criterion's `--quick` asks for less ...
const FEW: usize = 3;
/// ... and so many seconds don't pass before.
const SOON: f64 = 0.5;

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Seconds of a sample, where a call takes less.
    pub sample: f64,
    /// Seconds of this crate's kernels before samples count.
    pub warm_up: f64,
}

/// A case under measurement.
pub struct Contest {
    ours: Work,
    rival: Work,
    pace: Pace,
    spent: [f64; 3], // seconds of both sides, and of the yardstick
    /// Kernels that the plan chose, the one of this call first.
    pub kernels: Vec<String>,
    /// Copies of K and V that calls take turns over.
    pub copies: usize,
    /// Normalised mean squared difference of both outputs.
    pub nmse: f64,
    /// Samples of this crate's kernels.
    pub samples: Vec<Sample>,
    /// Samples of the rival.
    pub rival_samples: Vec<Sample>,
    /// Samples of the multiply-adds and of the read.
    peak_samples: [Vec<Sample>; 2],
}

impl Contest {
    /// Plans, compiles, runs both sides once and compares their outputs.
    ///
    /// # Errors
    /// The plan's, when the profile does not allow the case.
    pub fn new(
        gpu: &BenchGpu,
        timer: &Timer,
        case: &Case,
        pace: Pace,
    ) -> Result<Self, AttentionError> {
        let plan = gpu.planned.plan_attention(&case.problem())?;
        let tensors = Tensors::new(&gpu.planned, case, stream_bytes(gpu.software()))?;
        let prepared = pollster::block_on(plan.prepare())?;
        let workspace = prepared.workspace()?;
        let calls = tensors.caches.iter().map(|[key, value]| {
            prepared.bind(
                &workspace,
                &AttentionIo {
                    query: (&tensors.query).into(),
                    key: key.into(),
                    value: value.into(),
                    output: (&tensors.output).into(),
                    lengths: (&tensors.lengths).into(),
                    lse: None,
                    bias: None,
                    tree: None,
                },
            )
        });
        let calls = calls.collect::<Result<Vec<_>, _>>()?;
        let (queries, keys) = (case.queries, case.keys);
        let ours = Work::new(move |pass, call| {
            calls[(call % calls.len() as u64) as usize].encode(pass, queries, keys);
        });
        let rival = rival::work(&gpu.gpu, case, &tensors)?;

        // Their first call compiles on some drivers, and is warm-up for slow kernels.
        timer.calibrate(&ours, pace.sample / 4.0);
        timer.calibrate(&rival, pace.sample / 4.0);
        let output = tensors::read(&gpu.gpu, &tensors.output, case.element);
        let reference = tensors::read(&gpu.gpu, &tensors.rival_output, case.element);
        let nmse = match reference.iter().any(|value| *value != 0.0) {
            true => nmse(&output, &reference),
            false => f64::NAN, // nothing was computed
        };
        Ok(Self {
            ours,
            rival,
            pace,
            spent: [0.0; 3],
            kernels: kernel_names::in_order(&plan.explain(), case.queries * plan.problem().group()),
            copies: tensors.caches.len(),
            nmse,
            samples: vec![],
            rival_samples: vec![],
            peak_samples: [vec![], vec![]],
        })
    }

    /// The time of `calls` calls, from samples of at least the pace's length, each followed by one
    /// of the rival and of the peaks. Those pause while they have had their share of the time: the
    /// rival as much as this crate's kernels, the peaks half of it.
    pub fn run(
        &mut self,
        timer: &Timer,
        yardstick: Option<&Yardstick<'_>>,
        calls: u64,
    ) -> Duration {
        let (mut time, mut done) = (0.0, 0);
        while done < calls || (self.samples.len() < FEW && self.spent[0] < SOON) {
            let a_sample = self.ours.calls_for(self.pace.sample);
            let sample = timer.sample(&self.ours, a_sample);
            time += sample.seconds(best(&sample));
            done += a_sample;
            let warm = self.spent[0] + sample.wall > self.pace.warm_up;
            self.spent[0] += sample.wall;
            if warm {
                self.samples.push(sample);
            }
            if self.spent[1] <= self.spent[0] {
                let calls = self.rival.calls_for(self.pace.sample);
                let sample = timer.sample(&self.rival, calls);
                self.spent[1] += sample.wall;
                if warm || sample.wall > self.pace.warm_up {
                    self.rival_samples.push(sample);
                }
            }
            let Some(yardstick) = yardstick else { continue };
            if self.spent[2] <= self.spent[0] / 2.0 {
                for (samples, variant) in
                    (self.peak_samples.iter_mut()).zip([yardstick.fma, yardstick.read])
                {
                    let calls = variant.work.calls_for(self.pace.sample / 2.0);
                    let sample = timer.sample(&variant.work, calls);
                    self.spent[2] += sample.wall;
                    samples.push(sample);
                }
            }
        }
        // Criterion may ask for less than a sample, or for what is no whole number of them.
        Duration::from_secs_f64(time * calls as f64 / done as f64)
    }

    /// The peaks beside this case.
    pub fn rates(&self, yardstick: &Yardstick<'_>) -> Option<Rates> {
        let [fma, read] = &self.peak_samples;
        Some(Rates {
            fma: yardstick.fma.rate(fma)?,
            read: yardstick.read.rate(read)?,
        })
    }
}
