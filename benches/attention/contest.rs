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
    kernel_names,
    peaks::{Variant, Yardstick, stream_bytes},
    report::{Outcome, Side},
    rival,
    roofline::Rates,
    tensors::{self, Tensors},
    timing::{Timer, Work, best},
    turns::{PeakSamples, Turn, ratio, samples},
};

/// Turns that a median should have, where criterion's `--quick` asks for less ...
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
    kernels: Vec<String>,
    copies: usize,
    /// Normalised mean squared difference of both outputs.
    pub nmse: f64,
    turns: Vec<Turn>,
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
                    pages: None,
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
            turns: vec![],
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
        while done < calls || (self.turns.len() < FEW && self.spent[0] < SOON) {
            let ours = timer.sample(&self.ours, self.ours.calls_for(self.pace.sample));
            time += ours.seconds(best(&ours));
            done += ours.calls;
            self.spent[0] += ours.wall;
            let mut turn = Turn {
                ours,
                rival: None,
                peaks: None,
            };
            if self.spent[1] < self.spent[0] {
                let sample = timer.sample(&self.rival, self.rival.calls_for(self.pace.sample));
                self.spent[1] += sample.wall;
                turn.rival = Some(sample);
            }
            if let Some(yardstick) = yardstick
                && self.spent[2] < self.spent[0] / 2.0
            {
                let sample = |variant: &Variant| {
                    let calls = variant.work.calls_for(self.pace.sample / 2.0);
                    timer.sample(&variant.work, calls)
                };
                let matrix = yardstick.matrix.filter(|_| self.on_matrices());
                let peaks = PeakSamples {
                    fma: sample(yardstick.fma),
                    read: sample(yardstick.read),
                    matrix: matrix.map(sample),
                };
                let all = [Some(peaks.fma), Some(peaks.read), peaks.matrix];
                self.spent[2] += all.iter().flatten().map(|s| s.wall).sum::<f64>();
                turn.peaks = Some(peaks);
            }
            // A slow rival is warm at once, and may not have a second turn.
            let rival = turn.rival.map_or(0.0, |sample| sample.wall);
            if self.spent[0].max(rival) > self.pace.warm_up {
                self.turns.push(turn);
            }
        }
        // Criterion may ask for less than a sample, or for what is no whole number of them.
        Duration::from_secs_f64(time * calls as f64 / done as f64)
    }

    /// Whether the kernel of the case computes with cooperative matrices.
    fn on_matrices(&self) -> bool {
        self.kernels
            .first()
            .is_some_and(|name| kernel_names::on_matrices(name))
    }

    /// What was measured; `None` without a yardstick.
    pub fn outcome(self, case: &Case, yardstick: &Yardstick<'_>) -> Option<Outcome> {
        let turns = &self.turns;
        let fma = |turn: &Turn| turn.peaks.map(|peaks| peaks.fma);
        let read = |turn: &Turn| turn.peaks.map(|peaks| peaks.read);
        let matrix = |turn: &Turn| turn.peaks.and_then(|peaks| peaks.matrix);
        let rates = Rates {
            fma: yardstick.fma.rate(&samples(turns, fma))?,
            read: yardstick.read.rate(&samples(turns, read))?,
            matrix: (yardstick.matrix).and_then(|variant| variant.rate(&samples(turns, matrix))),
        };
        let limit = rates.limit(case.flops(), case.bytes(), self.on_matrices());
        // Calls of the peak's kernel that cost what the case costs, times the calls of the case
        // that take as long as one of them.
        let of_limit = match (limit.name, yardstick.matrix) {
            ("matrix", Some(variant)) => case.flops() as f64 / variant.cost * ratio(turns, matrix)?,
            ("FMA", _) => case.flops() as f64 / yardstick.fma.cost * ratio(turns, fma)?,
            _ => case.bytes() as f64 / yardstick.read.cost * ratio(turns, read)?,
        };
        Some(Outcome {
            kernels: self.kernels,
            copies: self.copies,
            nmse: self.nmse,
            rates,
            limit,
            of_limit,
            speed_up: ratio(turns, |turn| turn.rival),
            ours: Side::of(samples(turns, |turn| Some(turn.ours)))?,
            rival: Side::of(samples(turns, |turn| turn.rival)),
        })
    }
}
