//! What is told after an answer: a table for people, an object for programs.

use serde_json::{Value, json};
use sunfleck::{
    generate::{Finish, LogProbabilities, Statistics, Token, TokenChoice},
    wgpu::AdapterInfo,
};

/// Why an answer ended, in a word.
pub fn finish_name(finish: Option<Finish>) -> &'static str {
    match finish {
        Some(Finish::EndToken) => "end",
        Some(Finish::MaxTokens) => "max_tokens",
        Some(Finish::ContextFull) => "context_full",
        Some(Finish::StopString) => "stop",
        _ => "interrupted",
    }
}

/// A log-probability; null for a token that the sampling options left none.
fn number(log_probability: f32) -> Value {
    match log_probability > f32::MIN {
        true => json!(log_probability),
        false => Value::Null,
    }
}

/// An answer and how it came about.
pub struct Report<'a> {
    pub adapter: &'a AdapterInfo,
    pub drafter: &'a str,
    pub statistics: &'a Statistics,
    pub finish: Option<Finish>,
    pub prompt: &'a [u32],
    pub tokens: &'a [Token],
    pub choice: &'a TokenChoice,
    pub text: &'a str,
    /// The colours of the text, where it has any.
    pub legend: Option<String>,
}

impl Report<'_> {
    /// The object that `--json` prints.
    pub fn json(&self) -> Value {
        let s = self.statistics;
        let ids: Vec<u32> = self.tokens.iter().map(|token| token.id).collect();
        let mut object = json!({
            "tokens": ids,
            "text": self.text,
            "prompt_tokens": s.prompt_tokens,
            "prompt_token_ids": self.prompt,
            "steps": s.steps,
            "drafted": s.drafted,
            "accepted": s.accepted,
            "accepted_per_step": s.accepted_per_step(),
            "tokens_per_step": s.tokens_per_step(),
            "prefill_tokens_per_s": s.prefill_tokens_per_second(),
            "decode_tokens_per_s": s.decode_tokens_per_second(),
            "seconds": {
                "prefill": s.prefill.as_secs_f64(),
                "decode": s.decode.as_secs_f64(),
                "draft": s.draft.as_secs_f64(),
                "verify": s.verify.as_secs_f64(),
                "shift": s.shift.as_secs_f64(),
            },
            "context_shifts": s.shifts,
            "adapter": self.adapter.name,
            "backend": self.adapter.backend.to_string(),
            "drafter": self.drafter,
            "rule": format!("{:?}", self.choice.rule),
            "lossless": self.choice.rule.is_lossless(),
            "seed": self.choice.seed,
            "finish": self.finish_name(),
        });
        let likely: Option<Vec<Value>> = (self.tokens.iter())
            .map(|token| token.log_probabilities.as_ref())
            .map(|p| p.map(|p| self.likely(p)))
            .collect();
        if let (Some(likely), Some(_)) = (likely, self.choice.log_probabilities) {
            object["log_probabilities"] = Value::from(likely);
        }
        object
    }

    fn likely(&self, of_token: &LogProbabilities) -> Value {
        let mut object = json!({ "raw": of_token.raw, "processed": of_token.processed });
        if self.choice.log_probabilities > Some(0) {
            let top = of_token.top.iter().map(
                |top| json!({ "token": top.token, "raw": top.raw, "processed": number(top.processed) }),
            );
            object["top"] = top.collect();
        }
        object
    }

    fn finish_name(&self) -> &'static str {
        finish_name(self.finish)
    }

    /// The table that closes an answer.
    pub fn table(&self) -> String {
        let s = self.statistics;
        let mut rows = vec![
            (
                "adapter",
                format!("{} ({})", self.adapter.name, self.adapter.backend),
            ),
            ("prompt", format!("{} tokens", s.prompt_tokens)),
            (
                "generated",
                format!("{} tokens ({})", s.tokens, self.finish_name()),
            ),
            (
                "steps",
                format!("{} with drafter {}", s.steps, self.drafter),
            ),
            (
                "drafts",
                format!("{} of {} drafted tokens kept", s.accepted, s.drafted),
            ),
            (
                "per step",
                format!(
                    "{:.2} tokens, {:.2} of them drafted",
                    s.tokens_per_step(),
                    s.accepted_per_step()
                ),
            ),
            (
                "prefill",
                format!("{:.1} tokens/s", s.prefill_tokens_per_second()),
            ),
            (
                "decode",
                format!("{:.1} tokens/s", s.decode_tokens_per_second()),
            ),
        ];
        if let Some(legend) = &self.legend {
            rows.push(("colours", legend.clone()));
        }
        rows.iter()
            .map(|(name, value)| format!("  {name:<10} {value}\n"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_has_every_field_that_programs_rely_on() {
        let adapter = AdapterInfo::new(
            sunfleck::wgpu::DeviceType::Cpu,
            sunfleck::wgpu::Backend::Vulkan,
        );
        let mut statistics = Statistics::default();
        statistics.prompt_tokens = 3;
        statistics.steps = 2;
        statistics.drafted = 4;
        statistics.accepted = 1;
        statistics.stepped_tokens = 3;
        let choice = TokenChoice::default();
        let report = Report {
            adapter: &adapter,
            drafter: "ngram",
            statistics: &statistics,
            finish: Some(Finish::EndToken),
            prompt: &[1, 2, 3],
            tokens: &[],
            choice: &choice,
            text: "ab",
            legend: Some("green".to_owned()),
        };
        let object = report.json();
        assert_eq!(object["tokens"], json!([]));
        assert_eq!(object["accepted_per_step"], json!(0.5));
        for phase in ["prefill", "decode", "draft", "verify"] {
            assert_eq!(object["seconds"][phase], json!(0.0), "{phase}");
        }
        assert_eq!(object["prompt_tokens"], json!(3));
        for field in [
            "text",
            "steps",
            "drafted",
            "accepted",
            "prefill_tokens_per_s",
            "decode_tokens_per_s",
            "adapter",
            "backend",
            "drafter",
        ] {
            assert!(object.get(field).is_some(), "{field}");
        }
        assert_eq!(object["backend"], json!("vulkan"));
        assert!(report.table().contains("colours    green"));
        assert!(report.table().contains("1 of 4 drafted tokens kept"));
    }
}
