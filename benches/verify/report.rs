//! What was measured, as a table for people and as JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use sunfleck::draft::StepCosts;

use crate::{cases::Case, clock::Clock, decode::Token, statistics::Spread};

/// A whole run.
pub struct Report {
    /// Adapter, driver, backend, date and so on: name and value.
    pub machine: Vec<(&'static str, String)>,
    /// Bytes a second of a streaming read.
    pub read: f64,
    /// A decoded token, where there was a model.
    pub decode: Option<Token>,
    /// Steps of that model, for every number of nodes, where there was one.
    pub steps: Option<StepCosts>,
    pub rows: Vec<Row>,
}

/// A case with its figures.
pub struct Row {
    pub case: Case,
    /// Seconds of verification, commit and the end of the step.
    pub seconds: Spread,
    /// Processor time, of a software adapter.
    pub processor: Option<Spread>,
    pub clock: Clock,
    /// Logits, each read once.
    pub bytes: u64,
    /// Tokens that the verification gave, or its error.
    pub tokens: Result<usize, String>,
}

impl Report {
    /// The part of a decoded token's time that a case takes.
    pub fn of_decode(&self, row: &Row) -> Option<f64> {
        Some(row.seconds.median / self.decode.as_ref()?.seconds.median)
    }

    /// The part of the step's time that a case takes: of the model's pass over as many nodes and their verification.
    pub fn of_step(&self, row: &Row) -> Option<f64> {
        Some(row.seconds.median / self.step(row)?)
    }

    fn step(&self, row: &Row) -> Option<f64> {
        let steps = self.steps.as_ref()?.verify();
        steps.get(row.case.nodes as usize - 1).copied()
    }

    /// The part of a decoded token's processor time that a case takes, of a software adapter.
    pub fn of_decode_processor(&self, row: &Row) -> Option<f64> {
        let token = self.decode.as_ref()?.processor?;
        Some(row.processor?.median / token.median)
    }

    /// The rate at which logits were gone through, as a part of what the adapter can read.
    pub fn of_read(&self, row: &Row) -> f64 {
        row.bytes as f64 / row.seconds.median / self.read
    }

    pub fn table(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.machine {
            let _ = writeln!(text, "{name}: {value}");
        }
        let _ = writeln!(text, "streaming read: {:.1} GB/s", self.read * 1e-9);
        let _ = match &self.decode {
            Some(decode) => writeln!(
                text,
                "a decoded token: {}",
                milliseconds(decode.seconds.median)
            ),
            None => writeln!(
                text,
                "a decoded token: not measured, SUNFLECK_MODEL is not set"
            ),
        };
        text.push_str("\n| case | verify + commit | of a decoded token | of its processor time | of the step with as many nodes | of the read peak | tokens |\n|---|---|---|---|---|---|---|\n");
        for row in &self.rows {
            let percent = |part: Option<f64>| {
                part.map_or(String::new(), |part| format!("{:.1} %", part * 100.0))
            };
            let (of_decode, of_processor) = (
                percent(self.of_decode(row)),
                percent(self.of_decode_processor(row)),
            );
            let of_step = percent(self.of_step(row));
            let tokens = match &row.tokens {
                Ok(tokens) => tokens.to_string(),
                Err(error) => error.clone(),
            };
            let _ = writeln!(
                text,
                "| {} | {} ± {:.0} % | {of_decode} | {of_processor} | {of_step} | {:.0} % | {tokens} |",
                row.case.name,
                milliseconds(row.seconds.median),
                row.seconds.relative() * 100.0,
                self.of_read(row) * 100.0,
            );
        }
        text
    }

    pub fn json(&self) -> Value {
        let machine: serde_json::Map<String, Value> = self
            .machine
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "name": row.case.name,
                    "vocabulary": row.case.vocabulary,
                    "nodes": row.case.nodes,
                    "rule": format!("{:?}", row.case.rule),
                    "draw": format!("{:?}", row.case.draw),
                    "seconds": row.seconds.median,
                    "lower_quartile": row.seconds.lower,
                    "upper_quartile": row.seconds.upper,
                    "samples": row.seconds.count,
                    "clock": row.clock.name(),
                    "logit_bytes": row.bytes,
                    "of_decode": self.of_decode(row),
                    "step_seconds": self.step(row),
                    "of_step": self.of_step(row),
                    "processor_seconds": row.processor.map(|spread| spread.median),
                    "of_decode_processor": self.of_decode_processor(row),
                    "of_read": self.of_read(row),
                    "tokens": row.tokens.as_ref().ok(),
                })
            })
            .collect();
        json!({
            "benchmark": "verify",
            "machine": machine,
            "read_bytes_per_second": self.read,
            "decode_seconds": self.decode.map(|decode| decode.seconds.median),
            "cases": rows,
        })
    }
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.3} ms", seconds * 1e3)
}
