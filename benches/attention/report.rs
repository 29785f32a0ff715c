//! What was measured, as a table for people and as JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{
    cases::Case,
    clock::{Clock, Sample},
    kernel_names,
    peers::Peers,
    roofline::{Limit, Peak, Peaks, Rates, drift},
    statistics::Spread,
};

/// A whole run.
pub struct Report {
    /// Adapter, driver, backend, date and so on: name and value.
    pub machine: Vec<(&'static str, String)>,
    /// The adapter's peaks.
    pub peaks: Peaks,
    /// The cases that ran, or why one did not.
    pub rows: Vec<Row>,
    /// Other programs on the same cases.
    pub peers: Option<Peers>,
}

/// A case of the report.
pub struct Row {
    /// The case.
    pub case: Case,
    /// What was measured, or why nothing was.
    pub outcome: Result<Outcome, String>,
}

/// What was measured of a case.
pub struct Outcome {
    /// Kernels of the plan, the one that computed the case first.
    pub kernels: Vec<String>,
    /// Copies of K and V that calls took turns over.
    pub copies: usize,
    /// Normalised mean squared difference of the two outputs.
    pub nmse: f64,
    /// The peaks in the time of the case.
    pub rates: Rates,
    /// The least time that these leave.
    pub limit: Limit,
    /// How much of the peak that binds this crate's kernels reached.
    pub of_limit: f64,
    /// How often a call of this crate's kernels goes into one of the rival.
    pub speed_up: Option<f64>,
    /// This crate's kernels.
    pub ours: Side,
    /// The rival.
    pub rival: Option<Side>,
}

/// One side's samples.
pub struct Side {
    /// As measured.
    pub samples: Vec<Sample>,
    /// The clock that is believed.
    pub clock: Clock,
    /// Seconds of a call on it.
    pub seconds: Spread,
}

/// Two outputs of the same mathematics in f32, stored at most with the rounding of f16, agree to
/// this normalised mean squared difference.
const SAME: f64 = 1e-6;

impl Side {
    /// `None` without samples.
    pub fn of(samples: Vec<Sample>) -> Option<Self> {
        let clock = Clock::for_samples(&samples);
        let seconds = samples
            .iter()
            .map(|sample| sample.seconds(clock) / sample.calls as f64);
        Some(Self {
            seconds: Spread::of(seconds.collect())?,
            clock,
            samples,
        })
    }
}

/// Whether outputs of this difference are of the same computation; NaN is not.
pub fn same(nmse: f64) -> bool {
    nmse <= SAME
}

impl Outcome {
    /// How much of the peak that binds the rival reached.
    pub fn rival_of_limit(&self) -> Option<f64> {
        self.speed_up.map(|speed_up| self.of_limit / speed_up)
    }
}

impl Report {
    /// What a reader must know of the whole run.
    fn note(&self) -> Option<String> {
        let outcomes = self.rows.iter().filter_map(|row| row.outcome.as_ref().ok());
        drift(self.peaks.rates(), outcomes.map(|outcome| outcome.rates))
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.machine {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:<11} {value}");
        }
        let mut peak = |name: &str, peak: &Peak, unit: &str| {
            let rate = in_thousands(peak.rate, unit);
            let _ = writeln!(text, "{name:<11} {rate} ({})", peak.variant);
        };
        peak("f32 peak", &self.peaks.fma, "FLOP/s");
        if let Some(f16) = &self.peaks.fma_f16 {
            peak("f16 peak", f16, "FLOP/s");
        }
        if let Some(matrix) = &self.peaks.matrix {
            peak("matrix peak", matrix, "FLOP/s");
        }
        peak("read peak", &self.peaks.read, "B/s");
        text.push('\n');

        let header = [
            "case", "kernel", "time", "±", "rate", "limit", "of limit", "naive", "of limit",
            "speed-up",
        ];
        let mut lines = vec![header.map(str::to_owned).to_vec()];
        let mut notes = Vec::from_iter(self.note());
        for row in &self.rows {
            match &row.outcome {
                Ok(outcome) => {
                    lines.push(line(&row.case, outcome));
                    notes.extend(note(&row.case, outcome));
                }
                Err(reason) => {
                    lines.push(vec![row.case.name(), "-".into()]);
                    notes.push(format!("{}: {reason}", row.case.name()));
                }
            }
        }
        text.push_str(&aligned(&lines));
        for note in notes {
            let _ = writeln!(text, "! {note}");
        }
        text.push_str(&self.peer_table());
        text
    }

    /// The table of peers; empty without any.
    fn peer_table(&self) -> String {
        let Some(peers) = &self.peers else {
            return String::new();
        };
        let mut lines = vec![
            ["case", "peer", "time", "speed-up"]
                .map(str::to_owned)
                .to_vec(),
        ];
        for row in &self.rows {
            let ours = row.outcome.as_ref().map(|ours| ours.ours.seconds.median);
            for peer in peers.of(&row.case.name()) {
                let cells = match (&peer.seconds, &ours) {
                    (Ok(theirs), Ok(ours)) => [seconds(*theirs), format!("{:.2} x", theirs / ours)],
                    (Ok(theirs), Err(_)) => [seconds(*theirs), "-".into()],
                    (Err(reason), _) => [reason.clone(), "-".into()],
                };
                lines.push([vec![row.case.name(), peer.name], cells.into()].concat());
            }
        }
        format!("\nPeers: {}\n{}", peers.source(), aligned(&lines))
    }

    /// Everything, for programs. Times are in seconds, rates in operations or bytes a second.
    pub fn json(&self) -> Value {
        let machine: serde_json::Map<_, _> = self
            .machine
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        let peak = |peak: &Peak| {
            let variants: serde_json::Map<_, _> = (peak.variants.iter())
                .map(|(name, rate)| (name.clone(), json!(rate)))
                .collect();
            json!({ "rate": peak.rate, "variant": peak.variant, "variants": variants })
        };
        json!({
            "machine": machine,
            "note": self.note(),
            "peaks": {
                "fma_f32": peak(&self.peaks.fma),
                "fma_f16": self.peaks.fma_f16.as_ref().map(peak),
                "matrix": self.peaks.matrix.as_ref().map(peak),
                "read": peak(&self.peaks.read),
            },
            "peers": self.peers.as_ref().map(Peers::json),
            "cases": (self.rows.iter())
                .map(|one| row(one, self.peers.as_ref()))
                .collect::<Vec<_>>(),
        })
    }
}

/// A case, for programs.
fn row(row: &Row, peers: Option<&Peers>) -> Value {
    let case = &row.case;
    let mut value = json!({
        "name": case.name(),
        "kind": case.kind,
        "element": case.element.name(),
        "query_heads": case.heads,
        "kv_heads": case.kv_heads,
        "head_dim": case.dim,
        "queries": case.queries,
        "keys": case.keys,
        "causal": case.causal,
        "flops": case.flops(),
        "bytes": case.bytes(),
    });
    let outcome = match &row.outcome {
        Ok(outcome) => outcome,
        Err(reason) => {
            value["refused"] = json!(reason);
            return value;
        }
    };
    let (rates, limit) = (outcome.rates, outcome.limit);
    let side = |side: &Side, of_limit: Option<f64>| {
        let median = side.seconds.median;
        json!({
            "seconds": {
                "median": median,
                "min": side.seconds.min,
                "lower_quartile": side.seconds.lower,
                "upper_quartile": side.seconds.upper,
            },
            "clock": side.clock.name(),
            "warning": side.clock.warning(&side.samples),
            "flops_per_second": case.flops() as f64 / median,
            "bytes_per_second": case.bytes() as f64 / median,
            "of_limit": of_limit,
            "samples": side.samples.iter().map(|sample| json!({
                "calls": sample.calls,
                "wall": sample.wall,
                "gpu": sample.gpu,
            })).collect::<Vec<_>>(),
        })
    };
    let rival = outcome.rival.as_ref();
    value["kernels"] = json!(outcome.kernels);
    value["cache_copies"] = json!(outcome.copies);
    value["nmse_to_naive"] = json!(outcome.nmse);
    value["peaks"] = json!({
        "fma_f32": rates.fma,
        "matrix": rates.matrix,
        "read": rates.read,
    });
    value["limit"] = json!({ "peak": limit.name, "seconds": limit.seconds });
    value["sunfleck"] = side(&outcome.ours, Some(outcome.of_limit));
    value["naive"] = json!(rival.map(|rival| side(rival, outcome.rival_of_limit())));
    value["speed_up"] = json!(outcome.speed_up);
    value["peers"] =
        json!(peers.map(|peers| peers.beside(&case.name(), outcome.ours.seconds.median)));
    value
}

/// The cells of a case.
fn line(case: &Case, outcome: &Outcome) -> Vec<String> {
    let limit = outcome.limit;
    let time = outcome.ours.seconds;
    let rate = match limit.name {
        "FMA" => in_thousands(case.flops() as f64 / time.median, "FLOP/s"),
        _ => in_thousands(case.bytes() as f64 / time.median, "B/s"),
    };
    let or_none = |text: Option<String>| text.unwrap_or("-".into());
    let kernel = outcome
        .kernels
        .first()
        .map(|name| kernel_names::short(name));
    let rival = outcome.rival.as_ref();
    vec![
        case.name(),
        kernel.unwrap_or_default(),
        seconds(time.median),
        percent(time.relative()),
        rate,
        limit.name.into(),
        percent(outcome.of_limit),
        or_none(rival.map(|rival| seconds(rival.seconds.median))),
        or_none(outcome.rival_of_limit().map(percent)),
        or_none(outcome.speed_up.map(|ratio| format!("{ratio:.2} x"))),
    ]
}

/// What a reader of a row must know.
fn note(case: &Case, outcome: &Outcome) -> Vec<String> {
    let mut notes = vec![];
    if !same(outcome.nmse) {
        notes.push(format!(
            "{}: WRONG, outputs of the two differ by an NMSE of {:.1e}",
            case.name(),
            outcome.nmse
        ));
    }
    let sides = [
        ("", Some(&outcome.ours)),
        (" naive", outcome.rival.as_ref()),
    ];
    for (name, side) in sides {
        let warning = side.and_then(|side| side.clock.warning(&side.samples));
        notes.extend(warning.map(|warning| format!("{}{name}: {warning}", case.name())));
    }
    notes
}

/// Columns as wide as their widest cell; the first two left-aligned, figures right-aligned.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().enumerate().map(|(column, cell)| {
            let width = widths[column];
            match column {
                0 | 1 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            }
        });
        let cells: Vec<_> = cells.collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}

/// A rate with three digits and a prefix: `84.1 GFLOP/s`.
pub fn in_thousands(rate: f64, unit: &str) -> String {
    let prefixes = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let (scale, prefix) = prefixes
        .into_iter()
        .find(|(scale, _)| rate >= *scale)
        .unwrap_or((1.0, ""));
    format!("{} {prefix}{unit}", digits(rate / scale))
}

/// Seconds with three digits: `1.23 ms`.
pub fn seconds(seconds: f64) -> String {
    let units = [(1.0, "s"), (1e-3, "ms"), (1e-6, "us")];
    let (scale, unit) = units
        .into_iter()
        .find(|(scale, _)| seconds >= *scale)
        .unwrap_or((1e-9, "ns"));
    format!("{} {unit}", digits(seconds / scale))
}

/// A number from 1 to 999 with three digits.
fn digits(value: f64) -> String {
    match value {
        value if value >= 99.95 => format!("{value:.0}"),
        value if value >= 9.995 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// A fraction as whole percents, or tenths where it is small.
pub fn percent(fraction: f64) -> String {
    match fraction {
        fraction if fraction >= 0.0995 => format!("{:.0} %", fraction * 100.0),
        fraction => format!("{:.1} %", fraction * 100.0),
    }
}
