//! What is told after an answer: a table for people, an object for programs.

use serde_json::{Value, json};
use sunfleck::{
    generate::{Finish, Statistics},
    wgpu::AdapterInfo,
};

/// An answer and how it came about.
pub struct Report<'a> {
    pub adapter: &'a AdapterInfo,
    pub drafter: &'a str,
    pub statistics: &'a Statistics,
    pub finish: Option<Finish>,
    pub prompt: &'a [u32],
    pub tokens: &'a [u32],
    pub text: &'a str,
}

impl Report<'_> {
    /// The object that `--json` prints.
    pub fn json(&self) -> Value {
        let s = self.statistics;
        json!({
            "tokens": self.tokens,
            "text": self.text,
            "prompt_tokens": s.prompt_tokens,
            "prompt_token_ids": self.prompt,
            "steps": s.steps,
            "drafted": s.drafted,
            "accepted": s.accepted,
            "tokens_per_step": s.tokens_per_step(),
            "prefill_tokens_per_s": s.prefill_tokens_per_second(),
            "decode_tokens_per_s": s.decode_tokens_per_second(),
            "adapter": self.adapter.name,
            "backend": self.adapter.backend.to_string(),
            "drafter": self.drafter,
            "finish": self.finish_name(),
        })
    }

    fn finish_name(&self) -> &'static str {
        match self.finish {
            Some(Finish::EndToken) => "end",
            Some(Finish::MaxTokens) => "max_tokens",
            Some(Finish::ContextFull) => "context_full",
            _ => "interrupted",
        }
    }

    /// The table that closes an answer.
    pub fn table(&self) -> String {
        let s = self.statistics;
        let rows = [
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
                format!("{:.2} tokens kept", s.tokens_per_step()),
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
        let statistics = Statistics {
            prompt_tokens: 3,
            steps: 2,
            drafted: 4,
            accepted: 1,
            stepped_tokens: 3,
            ..Default::default()
        };
        let report = Report {
            adapter: &adapter,
            drafter: "ngram",
            statistics: &statistics,
            finish: Some(Finish::EndToken),
            prompt: &[1, 2, 3],
            tokens: &[7, 8],
            text: "ab",
        };
        let object = report.json();
        assert_eq!(object["tokens"], json!([7, 8]));
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
        assert!(report.table().contains("1 of 4 drafted tokens kept"));
    }
}
