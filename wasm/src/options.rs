//! Options of models, drafters and sampling, from JSON.

use std::{cell::RefCell, rc::Rc};

use sunfleck::{
    attention::Element,
    draft::{
        DraftContext, DraftError, Drafted, Drafter, FirstOf, MtpDrafter, NgramDrafter,
        NgramOptions, NoDrafter, Outcome, Recording,
    },
    generate::TokenChoice,
    model::DecoderOptions,
    verify::{LossyTypical, Rule, Sampling},
};
use wasm_bindgen::JsValue;

use crate::{
    error::{Code, fail},
    json::Fields,
};

/// A drafter that outlives the answers it drafts for.
struct Shared(Rc<RefCell<MtpDrafter>>);

// A generator drafts for one answer at a time, so no two borrows meet.
impl Drafter for Shared {
    fn name(&self) -> &str {
        "mtp"
    }

    fn draft(&mut self, context: &DraftContext<'_>) -> Result<Drafted, DraftError> {
        self.0.borrow_mut().draft(context)
    }

    fn record(&mut self, recording: &mut Recording<'_>) -> Result<(), DraftError> {
        self.0.borrow_mut().record(recording)
    }

    fn observe(&mut self, outcome: &Outcome<'_>) {
        self.0.borrow_mut().observe(outcome);
    }

    fn reset(&mut self) {
        self.0.borrow_mut().reset();
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    None,
    Ngram,
    Mtp,
    NgramThenMtp,
}

/// The drafter that `drafter`, `draftTokens`, `matches` and `adapt` ask for; `mtp` where one is loaded.
pub fn drafter(
    fields: &mut Fields,
    mtp: Option<&Rc<RefCell<MtpDrafter>>>,
) -> Result<Box<dyn Drafter>, JsValue> {
    let kinds = [
        ("none", Kind::None),
        ("ngram", Kind::Ngram),
        ("mtp", Kind::Mtp),
        ("ngram+mtp", Kind::NgramThenMtp),
    ];
    let kind = fields.choice("drafter", &kinds)?.unwrap_or(Kind::Ngram);
    let defaults = NgramOptions::default();
    let options = NgramOptions {
        max_tokens: fields
            .u32("draftTokens")?
            .map_or(defaults.max_tokens, |n| n as usize),
        matches: fields
            .u32("matches")?
            .map_or(defaults.matches, |n| n as usize),
        adapt: !fields.bool("fixedDraft")?,
        ..defaults
    };
    let ngram = NgramDrafter::new(options).map_err(|error| fail(Code::Argument, error))?;
    let trained = || match mtp {
        Some(mtp) => Ok(Shared(mtp.clone())),
        None => Err(fail(
            Code::Argument,
            "the drafter `mtp` needs its weights; load them with `generator.loadMtp`",
        )),
    };
    Ok(match kind {
        Kind::None => Box::new(NoDrafter),
        Kind::Ngram => Box::new(ngram),
        Kind::Mtp => Box::new(trained()?),
        Kind::NgramThenMtp => Box::new(FirstOf::new(Box::new(ngram), Box::new(trained()?), 1)),
    })
}

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
    let log_probabilities = fields.bool("logProbabilities")?.then_some(0);
    let choice = TokenChoice {
        rule: rule.unwrap_or(match is_warm {
            true => Rule::Rejection,
            false => Rule::Greedy,
        }),
        sampling,
        seed,
        log_probabilities,
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
