//! What was measured, as a table for people and as JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};
use sunfleck::wgpu::AdapterInfo;

use crate::{contenders::Contender, run::Answered};

/// A whole run.
pub struct Report {
    /// The adapter.
    pub adapter: AdapterInfo,
    /// The model file's name.
    pub model: String,
    /// Names of the prompts.
    pub prompts: Vec<String>,
    /// Tokens of each answer.
    pub tokens: usize,
    /// Plain decoding, then the contenders.
    pub rows: Vec<Row>,
    /// Contenders without weights for this model.
    pub left_out: Vec<String>,
}

/// What was measured of a contender.
pub struct Row {
    /// The drafter.
    pub drafter: String,
    /// The tree.
    pub tree: String,
    /// Its answers.
    pub answered: Answered,
    /// Seconds a token over those of plain decoding beside it, one a prompt.
    pub ratios: Vec<f64>,
    /// Answers that were those of plain decoding.
    pub same: usize,
}

impl Row {
    /// Of plain decoding.
    pub fn plain() -> Self {
        Self {
            drafter: "none".to_owned(),
            tree: String::new(),
            answered: Answered::default(),
            ratios: Vec::new(),
            same: 0,
        }
    }

    /// Of a contender.
    pub fn new(contender: &Contender) -> Self {
        Self {
            drafter: contender.drafter.name().to_owned(),
            tree: contender.tree.name(),
            ..Self::plain()
        }
    }

    /// Adds an answer beside which plain decoding took `plain`.
    pub fn add(&mut self, answered: Answered, plain: Answered, same: bool) {
        let a_token = |of: Answered| of.seconds / of.tokens.max(1) as f64;
        self.ratios.push(a_token(answered) / a_token(plain));
        self.same += usize::from(same);
        self.answered.add(answered);
    }

    /// Drafted tokens that a step kept.
    pub fn kept(&self) -> f64 {
        self.answered.kept as f64 / self.answered.steps.max(1) as f64
    }

    /// How often a token goes into one of plain decoding: the geometric mean over the prompts.
    pub fn speed_up(&self) -> f64 {
        let logarithms = self.ratios.iter().map(|ratio| ratio.ln());
        (-logarithms.sum::<f64>() / self.ratios.len().max(1) as f64).exp()
    }

    fn milliseconds(&self) -> [f64; 2] {
        let Answered {
            steps,
            seconds,
            draft_seconds,
            ..
        } = self.answered;
        let steps = steps.max(1) as f64;
        [draft_seconds, seconds - draft_seconds].map(|seconds| seconds * 1e3 / steps)
    }

    fn rate(&self) -> f64 {
        self.answered.tokens as f64 / self.answered.seconds.max(1e-9)
    }
}

impl Report {
    /// The adapter's name as part of a file name.
    pub fn slug(&self) -> String {
        let name = self.adapter.name.to_ascii_lowercase();
        let words = name.split(|c: char| !c.is_ascii_alphanumeric());
        let word = words.into_iter().find(|word| !word.is_empty());
        word.unwrap_or("adapter").to_owned()
    }

    /// The table.
    pub fn table(&self) -> String {
        let mut table = format!(
            "{} on {} ({}): {} prompts, {} tokens each, greedily\n\n",
            self.model,
            self.adapter.name,
            self.adapter.backend,
            self.prompts.len(),
            self.tokens
        );
        table.push_str(
            "| drafter | tree | kept per step | drafted per step | drafting | verifying | tokens/s | \
             speed-up | same text |\n|---|---|---|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            let [draft, verify] = row.milliseconds();
            let drafted = row.answered.drafted as f64 / row.answered.steps.max(1) as f64;
            let _ = writeln!(
                table,
                "| {} | {} | {:.2} | {drafted:.2} | {draft:.2} ms | {verify:.2} ms | {:.1} | {:.2} x | \
                 {} of {} |",
                row.drafter,
                row.tree,
                row.kept(),
                row.rate(),
                row.speed_up(),
                row.same,
                row.ratios.len(),
            );
        }
        if !self.left_out.is_empty() {
            let _ = writeln!(
                table,
                "\nno weights for this model: {}",
                self.left_out.join(", ")
            );
        }
        table
    }

    /// The same as JSON.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let [draft, verify] = row.milliseconds();
            json!({
                "drafter": row.drafter,
                "tree": row.tree,
                "kept_per_step": row.kept(),
                "drafted_per_step": row.answered.drafted as f64 / row.answered.steps.max(1) as f64,
                "tokens": row.answered.tokens,
                "steps": row.answered.steps,
                "draft_ms": draft,
                "verify_ms": verify,
                "tokens_per_s": row.rate(),
                "speed_up": row.speed_up(),
                "speed_up_by_prompt": row.ratios.iter().map(|ratio| 1.0 / ratio).collect::<Vec<_>>(),
                "same_text": row.same,
            })
        });
        json!({
            "adapter": self.adapter.name,
            "driver": format!("{} {}", self.adapter.driver, self.adapter.driver_info),
            "backend": self.adapter.backend.to_string(),
            "version": env!("CARGO_PKG_VERSION"),
            "date": humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
            "model": self.model,
            "prompts": self.prompts,
            "tokens_per_answer": self.tokens,
            "rows": rows.collect::<Vec<_>>(),
        })
    }
}
