//! Options of models and sampling, from JSON.

use serde_json::Value;
use sunfleck::{
    attention::Element,
    generate::{DraftChoice, TokenChoice},
    model::DecoderOptions,
    verify::{LossyTypical, Rule, Sampling},
};
use wasm_bindgen::JsValue;

use crate::{
    error::{Code, fail},
    json::Fields,
};

/// The fields of [`Sampling`], and whether a temperature above 0 is among them. Temperature 0 is none: the greedy
/// rule's.
pub fn sampling(fields: &mut Fields) -> Result<(Sampling, bool), JsValue> {
    let defaults = Sampling::default();
    let temperature = fields.f32("temperature")?.filter(|t| *t != 0.0);
    let sampling = Sampling {
        temperature: temperature.unwrap_or(defaults.temperature),
        top_k: fields.u32("topK")?.unwrap_or(defaults.top_k),
        top_p: fields.f32("topP")?.unwrap_or(defaults.top_p),
        min_p: fields.f32("minP")?.unwrap_or(defaults.min_p),
        repetition_penalty: fields
            .f32("repetitionPenalty")?
            .unwrap_or(defaults.repetition_penalty),
        presence_penalty: fields
            .f32("presencePenalty")?
            .unwrap_or(defaults.presence_penalty),
    };
    Ok((sampling, temperature.is_some()))
}

/// A rule of acceptance with its numbers.
pub fn rule(fields: &mut Fields) -> Result<Option<Rule>, JsValue> {
    let typical = LossyTypical::default();
    let (epsilon, delta) = (fields.f32("epsilon")?, fields.f32("delta")?);
    let threshold = fields.f32("threshold")?.unwrap_or(0.3);
    let rules = [
        ("greedy", Rule::Greedy),
        ("rejection", Rule::Rejection),
        ("chain-rejection", Rule::ChainRejection),
        ("block", Rule::Block),
        ("traversal", Rule::Traversal),
        (
            "lossy-typical",
            Rule::LossyTypical(LossyTypical {
                epsilon: epsilon.unwrap_or(typical.epsilon),
                delta: delta.unwrap_or(typical.delta),
            }),
        ),
        ("lossy-threshold", Rule::LossyThreshold(threshold)),
    ];
    fields.choice("rule", &rules)
}

/// How tokens are chosen: without a temperature (or with 0) greedily.
pub fn choice(fields: &mut Fields) -> Result<TokenChoice, JsValue> {
    let rule = rule(fields)?;
    let (sampling, is_warm) = sampling(fields)?;
    let seed = fields.u64("seed")?.unwrap_or(0);
    let log_probabilities = match fields.take("logProbabilities") {
        None | Some(Value::Bool(false)) => None,
        Some(Value::Bool(true)) => Some(0),
        Some(value) => match value.as_f64().filter(|n| n.fract() == 0.0) {
            Some(n) if (0.0..=f64::from(u32::MAX)).contains(&n) => Some(n as u32),
            _ => {
                return Err(fail(
                    Code::Argument,
                    format!(
                        "`logProbabilities` must be true, false or a whole number, given {value}"
                    ),
                ));
            }
        },
    };
    let drafts = [
        ("likeliest", DraftChoice::Likeliest),
        ("drawn", DraftChoice::Drawn),
    ];
    let drafts = fields.choice("drafts", &drafts)?.unwrap_or_default();
    let choice = TokenChoice {
        rule: rule.unwrap_or(match is_warm {
            true => Rule::Rejection,
            false => Rule::Greedy,
        }),
        sampling,
        seed,
        log_probabilities,
        drafts,
        ..TokenChoice::default()
    };
    match choice.check() {
        Ok(()) => Ok(choice),
        Err(error) => Err(fail(Code::Argument, error)),
    }
}

/// How a model is set up: `context`, `kv`, `page`, `maxDraft`.
pub fn decoder(text: &str) -> Result<DecoderOptions, JsValue> {
    let mut fields = Fields::parse("the model's options", text)?;
    let defaults = DecoderOptions::default();
    let kv = [
        ("f32", Element::F32),
        ("f16", Element::F16),
        ("bf16", Element::Bf16),
        ("q8", Element::Q8),
        ("q4", Element::Q4),
    ];
    let options = DecoderOptions {
        context: fields.u32("context")?.unwrap_or(defaults.context),
        cache: fields.choice("kv", &kv)?.unwrap_or(defaults.cache),
        page: fields.u32("page")?,
        max_draft: fields.u32("maxDraft")?.unwrap_or(defaults.max_draft),
        lazy_kernels: true,
        ..defaults
    };
    fields.finish()?;
    // A draft is a row of the step's buffers each: more than a tree may have can't be asked for.
    let most = sunfleck::tree::MAX_NODES as u32 - 1;
    if options.max_draft > most {
        return Err(fail(
            Code::Argument,
            format!(
                "`maxDraft` must be at most {most}, given {}",
                options.max_draft
            ),
        ));
    }
    Ok(options)
}
