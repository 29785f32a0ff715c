//! What was measured, as a table for people and as JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};
use sunfleck::wgpu::AdapterInfo;

use crate::{contenders::Contender, run::Answered};

/// A whole run, or what there is of it.
pub struct Report {
    /// The adapter.
    pub adapter: AdapterInfo,
    /// The model file's name.
    pub model: String,
    /// Names of the prompts that were answered.
    pub prompts: Vec<String>,
    /// Most tokens of an answer.
    pub tokens: usize,
    /// Whether answers went on where the model ended its turn.
    pub past_end: bool,
    /// Tokens that trained drafters could draft.
    pub vocabulary: String,
    /// Plain decoding, then the contenders.
    pub rows: Vec<Row>,
    /// Contenders that could not take part, and why.
    pub left_out: Vec<String>,
}

/// What was measured of a contender.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The drafter.
    pub drafter: String,
    /// The tree.
    pub tree: String,
    /// Its answers.
    pub answers: Vec<Beside>,
}

/// An answer beside plain decoding of the same prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Beside {
    /// The prompt's name.
    pub prompt: String,
    /// Its kind.
    pub kind: String,
    /// The contender's answer.
    pub own: Answered,
    /// Plain decoding, before and after the contenders.
    pub plain: Answered,
    /// Whether the texts were the same.
    pub same: bool,
}

impl Beside {
    fn speed_up(&self) -> f64 {
        let a_token = |of: Answered| of.seconds / of.tokens.max(1) as f64;
        a_token(self.plain) / a_token(self.own).max(1e-12)
    }
}

impl Row {
    /// Of plain decoding.
    pub fn plain() -> Self {
        Self {
            drafter: "none".to_owned(),
            tree: String::new(),
            answers: Vec::new(),
        }
    }

    /// Of a contender.
    pub fn new(contender: &Contender) -> Self {
        Self {
            drafter: contender.drafter.name(),
            tree: contender.tree.name(),
            ..Self::plain()
        }
    }

    /// All answers together.
    pub fn total(&self) -> Answered {
        let mut total = Answered::default();
        self.answers.iter().for_each(|answer| total.add(answer.own));
        total
    }

    /// Drafted tokens that a step kept, over all steps.
    pub fn kept(&self) -> f64 {
        self.total().kept_per_step()
    }

    /// The same as a mean over answers: of a kind, or of all.
    pub fn mean_kept(&self, kind: Option<&str>) -> f64 {
        let answers = (self.answers.iter()).filter(|answer| kind.is_none_or(|k| k == answer.kind));
        let kept: Vec<f64> = answers.map(|answer| answer.own.kept_per_step()).collect();
        kept.iter().sum::<f64>() / kept.len().max(1) as f64
    }

    /// How often a token goes into one of plain decoding: the geometric mean over the prompts.
    pub fn speed_up(&self) -> f64 {
        // An answer that ended with its first token took no step.
        let logarithms = (self.answers.iter())
            .filter(|answer| answer.own.tokens > 0 && answer.plain.tokens > 0)
            .map(|answer| answer.speed_up().ln());
        let logarithms: Vec<f64> = logarithms.collect();
        (logarithms.iter().sum::<f64>() / logarithms.len().max(1) as f64).exp()
    }

    fn milliseconds(&self) -> [f64; 2] {
        let total = self.total();
        let steps = total.steps.max(1) as f64;
        let drafting = total.draft_seconds;
        [drafting, total.seconds - drafting].map(|seconds| seconds * 1e3 / steps)
    }

    fn rate(&self) -> f64 {
        let total = self.total();
        total.tokens as f64 / total.seconds.max(1e-9)
    }

    fn same(&self) -> usize {
        self.answers.iter().filter(|answer| answer.same).count()
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

    fn kinds(&self) -> Vec<&str> {
        let mut kinds: Vec<&str> = Vec::new();
        for answer in self.rows.iter().flat_map(|row| &row.answers) {
            if !kinds.contains(&answer.kind.as_str()) {
                kinds.push(&answer.kind);
            }
        }
        kinds
    }

    /// What was answered, in words.
    pub fn subject(&self) -> String {
        format!(
            "{} prompts, up to {} tokens each{}, greedily; draft vocabulary: {}",
            self.prompts.len(),
            self.tokens,
            match self.past_end {
                true => " whatever they are",
                false => "",
            },
            self.vocabulary
        )
    }

    /// The tables: one of times, one of what was kept of each kind of prompt.
    pub fn table(&self) -> String {
        let mut table = format!(
            "{} on {} ({}): {}\n\n",
            self.model,
            self.adapter.name,
            self.adapter.backend,
            self.subject()
        );
        table.push_str(
            "| drafter | tree | kept per step | drafted per step | drafting | verifying | tokens/s | \
             speed-up | same text |\n|---|---|---|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            let ([draft, verify], total) = (row.milliseconds(), row.total());
            let drafted = total.drafted as f64 / total.steps.max(1) as f64;
            let _ = writeln!(
                table,
                "| {} | {} | {:.2} | {drafted:.2} | {draft:.2} ms | {verify:.2} ms | {:.1} | {:.2} x | \
                 {} of {} |",
                row.drafter,
                row.tree,
                row.kept(),
                row.rate(),
                row.speed_up(),
                row.same(),
                row.answers.len(),
            );
        }
        let kinds = self.kinds();
        let _ = writeln!(
            table,
            "\nkept per step, means over answers:\n\n| drafter | tree | all | {} |\n|---|---|---|{}",
            kinds.join(" | "),
            "---|".repeat(kinds.len())
        );
        for row in self.rows.iter().skip(1) {
            let of_kinds = kinds.iter().map(|kind| row.mean_kept(Some(kind)));
            let of_kinds: Vec<String> = of_kinds.map(|kept| format!("{kept:.2}")).collect();
            let (all, of_kinds) = (row.mean_kept(None), of_kinds.join(" | "));
            let _ = writeln!(
                table,
                "| {} | {} | {all:.2} | {of_kinds} |",
                row.drafter, row.tree
            );
        }
        for reason in &self.left_out {
            let _ = writeln!(table, "\nleft out: {reason}");
        }
        table
    }

    /// The same as JSON, with every answer.
    pub fn json(&self) -> Value {
        let kinds = self.kinds();
        let rows = self.rows.iter().map(|row| {
            let ([draft, verify], total) = (row.milliseconds(), row.total());
            let by_kind = kinds
                .iter()
                .map(|&kind| (kind.to_owned(), row.mean_kept(Some(kind)).into()));
            json!({
                "drafter": row.drafter,
                "tree": row.tree,
                "kept_per_step": row.kept(),
                "kept_per_step_mean_of_answers": row.mean_kept(None),
                "kept_per_step_by_kind": by_kind.collect::<serde_json::Map<_, _>>(),
                "drafted_per_step": total.drafted as f64 / total.steps.max(1) as f64,
                "draft_ms": draft,
                "verify_ms": verify,
                "tokens_per_s": row.rate(),
                "speed_up": row.speed_up(),
                "same_text": row.same(),
                "answers": row.answers.iter().map(answer_json).collect::<Vec<_>>(),
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
            "past_end": self.past_end,
            "draft_vocabulary": self.vocabulary,
            "rows": rows.collect::<Vec<_>>(),
        })
    }

    /// An interrupted run as [`json`](Self::json) wrote it, where it was one of the same things as this one, which has no
    /// answers yet.
    pub fn resumed(&self, text: &str) -> Option<Self> {
        let (value, own): (Value, Value) = (serde_json::from_str(text).ok()?, self.json());
        let same = [
            "adapter",
            "driver",
            "version",
            "model",
            "tokens_per_answer",
            "past_end",
            "draft_vocabulary",
        ];
        if same.iter().any(|name| value[name] != own[name]) {
            return None;
        }
        let rows = value["rows"].as_array()?;
        if rows.len() != self.rows.len() {
            return None;
        }
        let prompts = value["prompts"].as_array()?.iter();
        let prompts: Option<Vec<String>> =
            prompts.map(|id| Some(id.as_str()?.to_owned())).collect();
        let rows = self.rows.iter().zip(rows).map(|(row, value)| {
            let is_same = value["drafter"] == *row.drafter && value["tree"] == *row.tree;
            let answers = value["answers"].as_array().filter(|_| is_same)?;
            let answers: Option<Vec<Beside>> = answers.iter().map(answer_of).collect();
            Some(Row {
                answers: answers?,
                ..row.clone()
            })
        });
        Some(Self {
            adapter: self.adapter.clone(),
            model: self.model.clone(),
            prompts: prompts?,
            vocabulary: self.vocabulary.clone(),
            rows: rows.collect::<Option<Vec<Row>>>()?,
            left_out: self.left_out.clone(),
            ..*self
        })
    }
}

fn answered_json(of: &Answered) -> Value {
    json!({
        "tokens": of.tokens,
        "steps": of.steps,
        "drafted": of.drafted,
        "kept": of.kept,
        "seconds": of.seconds,
        "draft_seconds": of.draft_seconds,
    })
}

fn answered_of(value: &Value) -> Option<Answered> {
    let count = |name: &str| Some(value[name].as_u64()? as usize);
    Some(Answered {
        tokens: count("tokens")?,
        steps: count("steps")?,
        drafted: count("drafted")?,
        kept: count("kept")?,
        seconds: value["seconds"].as_f64()?,
        draft_seconds: value["draft_seconds"].as_f64()?,
    })
}

fn answer_json(answer: &Beside) -> Value {
    json!({
        "prompt": answer.prompt,
        "kind": answer.kind,
        "own": answered_json(&answer.own),
        "plain": answered_json(&answer.plain),
        "same": answer.same,
    })
}

fn answer_of(value: &Value) -> Option<Beside> {
    Some(Beside {
        prompt: value["prompt"].as_str()?.to_owned(),
        kind: value["kind"].as_str()?.to_owned(),
        own: answered_of(&value["own"])?,
        plain: answered_of(&value["plain"])?,
        same: value["same"].as_bool()?,
    })
}
