//! The answer to a prompt, piece by piece.

use js_sys::{Function, Promise};
use serde_json::{Value, json};
use sunfleck::{
    generate::{Finish, GenerateOptions, Origin, Statistics, Step, StopStrings, TextStream, Token},
    model::Tokenizer,
    tree::NONE,
};
use wasm_bindgen::{JsCast as _, prelude::*};
use wasm_bindgen_futures::JsFuture;

use crate::{
    drafters,
    error::{Code, fail},
    generator::{Cancel, Generator},
    grammar,
    json::Fields,
    options,
};

#[wasm_bindgen]
impl Generator {
    /// Answers `prompt`, after what the generator holds where `continue`. `options` is JSON: `maxTokens`, `stop`,
    /// `contextShift`, `steps`, `continue`, `grammar`, and those of [`drafters::Request::read`] and [`options::choice`].
    /// `on_event` gets JSON, `{ text, origin }` a piece and, where `steps`, `{ step }` a step; it returns a promise
    /// that is waited for. Resolves to the statistics as JSON.
    pub async fn generate(
        &mut self,
        prompt: Vec<u32>,
        options: String,
        cancel: &Cancel,
        on_event: Function,
    ) -> Result<String, JsValue> {
        let wrong = |error: &dyn std::fmt::Display| fail(Code::Generate, error);
        let mut fields = Fields::parse("the options", &options)?;
        let drafter = drafters::Request::read(&mut fields)?;
        let stops = fields.strings("stop")?.unwrap_or_default();
        let wants_steps = fields.bool("steps")?;
        let goes_on = fields.bool("continue")?;
        let options = GenerateOptions {
            max_tokens: fields.u32("maxTokens")?.unwrap_or(256) as usize,
            end_tokens: match fields.bool("ignoreEnd")? {
                true => Vec::new(),
                false => self.tokenizer.end_tokens(),
            },
            context_shift: fields.u32("contextShift")?,
            choice: options::choice(&mut fields)?,
            grammar: grammar::read(&mut fields, &self.tokenizer)?,
            ..GenerateOptions::default()
        };
        fields.finish()?;
        if !goes_on {
            self.session.reset();
        } else if self.drafters.measures(&drafter) {
            return Err(fail(
                Code::Argument,
                "`tree: \"auto\"` has to measure this drafter first, which forgets the sequence: ask for one answer \
                 with it without `continue`",
            ));
        }
        self.drafters.install(&mut self.session, &drafter).await?;
        self.session.set_reads_drafts(wants_steps);
        let tokens = self
            .session
            .generate(&prompt, options)
            .with_cancel(cancel.0.clone());
        let mut text = TextStream::new(tokens, &self.tokenizer, StopStrings::new(stops));
        let mut steps = 0;
        let mut seen = 0;
        loop {
            let piece = text.next_piece().await;
            let statistics = *text.stream().statistics();
            if wants_steps && (statistics.steps != steps || seen == 0) {
                steps = statistics.steps;
                let new = text.tokens().get(seen..).unwrap_or_default();
                seen = text.tokens().len();
                let step = text.stream().last_step();
                let event = step_event(&self.tokenizer, step, new, &statistics);
                call(&on_event, &json!({ "step": event }).to_string()).await?;
            }
            let Some(piece) = piece else { break };
            let piece = piece.map_err(|error| wrong(&error))?;
            let origin = match piece.origin {
                Origin::Drafted => "drafted",
                Origin::Bonus => "bonus",
                _ => "plain",
            };
            let event = json!({ "text": piece.text, "origin": origin });
            call(&on_event, &event.to_string()).await?;
        }
        let statistics = *text.stream().statistics();
        let finish = match text.stream().finish() {
            Some(Finish::EndToken) => "end",
            Some(Finish::StopString) => "stop",
            Some(Finish::ContextFull) => "context",
            Some(Finish::Cancelled) => "cancelled",
            _ => "length",
        };
        let ids: Vec<u32> = text.tokens().iter().map(|token| token.id).collect();
        let mut result = counts(&statistics);
        result["finish"] = finish.into();
        result["tokenIds"] = ids.into();
        result["explained"] = text.stream().session().explain().into();
        Ok(result.to_string())
    }
}

fn counts(statistics: &Statistics) -> Value {
    json!({
        "promptTokens": statistics.prompt_tokens,
        "tokens": statistics.tokens,
        "steps": statistics.steps,
        "steppedTokens": statistics.stepped_tokens,
        "drafted": statistics.drafted,
        "accepted": statistics.accepted,
        "shifts": statistics.shifts,
        "tokensPerStep": statistics.tokens_per_step(),
        "tokensPerSecond": statistics.decode_tokens_per_second(),
        "promptTokensPerSecond": statistics.prefill_tokens_per_second(),
        "seconds": {
            "prefill": statistics.prefill.as_secs_f64(),
            "decode": statistics.decode.as_secs_f64(),
            "draft": statistics.draft.as_secs_f64(),
            "verify": statistics.verify.as_secs_f64(),
            "shift": statistics.shift.as_secs_f64(),
            "compile": statistics.compile.as_secs_f64(),
        },
    })
}

/// Counts so far, new tokens with their probabilities, and the draft with what was kept of it.
fn step_event(
    tokenizer: &Tokenizer,
    step: Option<&Step>,
    new: &[Token],
    statistics: &Statistics,
) -> Value {
    let name = |id: u32| match id {
        Step::NOT_READ => None,
        id => (tokenizer.name(id).is_some())
            .then(|| tokenizer.decode(&[id]).ok())
            .flatten(),
    };
    let mut event = counts(statistics);
    event["new"] = new
        .iter()
        .map(|token| {
            let both = token.log_probabilities.as_ref();
            json!({
                "id": token.id,
                "text": name(token.id),
                "logProbability": both.map(|both| both.raw),
                "processedLogProbability": both.map(|both| finite(both.processed)),
                "probability": both.map(|both| both.raw.exp()),
                "likeliest": both.map(|both| {
                    let top = both.top.iter().map(|top| {
                        json!({
                            "id": top.token,
                            "text": name(top.token),
                            "logProbability": top.raw,
                            "processedLogProbability": finite(top.processed),
                        })
                    });
                    top.collect::<Vec<_>>()
                }),
            })
        })
        .collect();
    if let Some(step) = step {
        let tokens = step.draft.tokens();
        let read = |id: &u32| (*id != Step::NOT_READ).then_some(*id);
        let logs = step.log_probabilities.iter().map(|both| both.raw.exp());
        event["draft"] = json!({
            "tokens": tokens.iter().map(read).collect::<Vec<_>>(),
            "texts": tokens.iter().map(|id| name(*id)).collect::<Vec<_>>(),
            "parents": step.draft.parents().iter()
                .map(|parent| (*parent != NONE).then_some(*parent))
                .collect::<Vec<_>>(),
            "path": step.path,
            // Of the kept nodes below the root in order, then of the token after them.
            "probabilities": logs.collect::<Vec<_>>(),
            // In the same places, where so many of the likeliest tokens are asked for.
            "likeliest": step.log_probabilities.iter()
                .map(|both| {
                    let top = both.top.iter();
                    top.map(|top| json!({ "id": top.token, "probability": top.raw.exp() })).collect()
                })
                .collect::<Vec<Value>>(),
            "bonus": step.tokens.last().map(|id| json!({ "id": id, "text": name(*id) })),
            "seconds": {
                "draft": step.draft_time.as_secs_f64(),
                "verify": step.verify_time.as_secs_f64(),
            },
        });
    }
    event
}

/// JSON has no number for a token that the rule kept although the processed distribution excludes it.
fn finite(log_probability: f32) -> f32 {
    log_probability.max(f32::MIN)
}

/// Calls `callback` with `event` and waits for its answer.
async fn call(callback: &Function, event: &str) -> Result<(), JsValue> {
    let answer = callback.call1(&JsValue::UNDEFINED, &event.into())?;
    if let Ok(promise) = answer.dyn_into::<Promise>() {
        JsFuture::from(promise).await?;
    }
    Ok(())
}
