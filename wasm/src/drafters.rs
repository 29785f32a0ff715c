//! Who drafts, and how much: drafters with trained weights, and what is asked for in an answer.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use sunfleck::{
    draft::{
        Auto, Bounded, DraftContext, DraftError, DraftLimits, Drafted, Drafter, DrafterLoadError,
        ExitDrafter, ExitOptions, FirstOf, MedusaDrafter, MedusaOptions, MtpDrafter, MtpOptions,
        NgramDrafter, NgramOptions, NoDrafter, Outcome, Recording, StepCosts,
    },
    generate::Session,
    gpu::Gpu,
    model::{Decoder, Gguf},
};
use wasm_bindgen::JsValue;

use crate::{
    error::{Code, fail},
    json::Fields,
    source::JsSource,
};

/// Tokens that a look-up has to find for its draft to go before another drafter's.
const LEAST_FOUND: usize = 2;

/// Drafters with weights of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trained {
    /// A trained layer after the model's last.
    Mtp,
    /// Heads on the model's last feature.
    Medusa,
    /// The model's own first layers.
    Exit,
}

impl Trained {
    /// All of them by name.
    pub const NAMES: [(&str, Trained); 3] = [
        ("mtp", Trained::Mtp),
        ("medusa", Trained::Medusa),
        ("exit", Trained::Exit),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Mtp => "mtp",
            Self::Medusa => "medusa",
            Self::Exit => "exit",
        }
    }

    /// Loads one for `decoder`, which was loaded from `gguf` and `source`, from the bytes of its safetensors file.
    /// `fields`: `tokens` (not of `medusa`), `nodes` (not of `exit`), `layers` (of `exit`).
    pub async fn load(
        self,
        gpu: &Gpu,
        decoder: &Decoder,
        gguf: &Gguf,
        source: &mut JsSource,
        weights: &[u8],
        vocabulary: Vec<u32>,
        mut fields: Fields,
    ) -> Result<Box<dyn Drafter>, JsValue> {
        let mut number = |name: &str| -> Result<Option<usize>, JsValue> {
            Ok(fields.u32(name)?.map(|n| n as usize))
        };
        let usual = (
            MtpOptions::default(),
            MedusaOptions::default(),
            ExitOptions::default(),
        );
        let loaded: Result<Box<dyn Drafter>, DrafterLoadError> = match self {
            Self::Mtp => {
                let options = MtpOptions {
                    tokens: number("tokens")?.unwrap_or(usual.0.tokens),
                    nodes: number("nodes")?.unwrap_or(usual.0.nodes),
                    vocabulary,
                    ..usual.0
                };
                fields.finish()?;
                MtpDrafter::load_from(gpu, decoder, gguf, source, weights, &options)
                    .await
                    .map(|drafter| Box::new(drafter) as Box<dyn Drafter>)
            }
            Self::Medusa => {
                let options = MedusaOptions {
                    nodes: number("nodes")?.unwrap_or(usual.1.nodes),
                    vocabulary,
                    ..usual.1
                };
                fields.finish()?;
                MedusaDrafter::load_from(gpu, decoder, gguf, source, weights, &options)
                    .await
                    .map(|drafter| Box::new(drafter) as Box<dyn Drafter>)
            }
            Self::Exit => {
                let options = ExitOptions {
                    tokens: number("tokens")?.unwrap_or(usual.2.tokens),
                    layers: fields.u32("layers")?.unwrap_or(usual.2.layers),
                    vocabulary,
                };
                fields.finish()?;
                ExitDrafter::load_from(gpu, decoder, gguf, source, weights, &options)
                    .await
                    .map(|drafter| Box::new(drafter) as Box<dyn Drafter>)
            }
        };
        loaded.map_err(|error| source.explain(error))
    }
}

/// The trained drafters that are loaded, and what steps with each cost: they outlive the answers they draft for.
#[derive(Default)]
pub struct Drafters {
    trained: HashMap<Trained, Rc<RefCell<Box<dyn Drafter>>>>,
    costs: BTreeMap<String, StepCosts>,
    /// What was asked for when a drafter was held to what pays last, and that drafter: it has counted what was kept.
    adaptive: Option<(Request, Rc<RefCell<Box<dyn Drafter>>>)>,
}

/// One of [`Drafters`] at work.
struct Shared {
    name: String,
    drafter: Rc<RefCell<Box<dyn Drafter>>>,
}

impl Shared {
    fn of(drafter: &Rc<RefCell<Box<dyn Drafter>>>) -> Box<dyn Drafter> {
        Box::new(Self {
            name: drafter.borrow().name().to_owned(),
            drafter: drafter.clone(),
        })
    }
}

// A generator drafts for one answer at a time, so no two borrows meet.
impl Drafter for Shared {
    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> DraftLimits {
        self.drafter.borrow().limits()
    }

    fn draft(&mut self, context: &DraftContext<'_>) -> Result<Drafted, DraftError> {
        self.drafter.borrow_mut().draft(context)
    }

    fn record(&mut self, recording: &mut Recording<'_>) -> Result<(), DraftError> {
        self.drafter.borrow_mut().record(recording)
    }

    fn observe(&mut self, outcome: &Outcome<'_>) {
        self.drafter.borrow_mut().observe(outcome);
    }

    fn explain(&self) -> Option<String> {
        self.drafter.borrow().explain()
    }

    fn reset(&mut self) {
        self.drafter.borrow_mut().reset();
    }
}

/// How much is drafted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Usual,
    /// What pays, by measured costs.
    Auto,
    /// A chain of so many drafted tokens.
    Chain(usize),
    /// A tree of so many nodes, the root included.
    Nodes(usize),
}

impl Size {
    /// From `tree`: `"auto"`, `{ "chain": tokens }` or `{ "nodes": nodes }`.
    fn read(fields: &mut Fields) -> Result<Self, JsValue> {
        let Some(value) = fields.take("tree") else {
            return Ok(Self::Usual);
        };
        if value == "auto" {
            return Ok(Self::Auto);
        }
        let number = |name: &str| match value.as_object() {
            Some(object) if object.len() == 1 => object.get(name)?.as_f64(),
            _ => None,
        };
        let whole = |n: f64| n.fract() == 0.0 && (1.0..=512.0).contains(&n);
        match (number("chain"), number("nodes")) {
            (Some(tokens), _) if whole(tokens) => Ok(Self::Chain(tokens as usize)),
            (_, Some(nodes)) if whole(nodes) => Ok(Self::Nodes(nodes as usize)),
            _ => Err(fail(
                Code::Argument,
                format!(
                    "`tree` must be \"auto\", {{ chain: tokens }} or {{ nodes: nodes }} with a whole number from 1 \
                     to 512, given {value}"
                ),
            )),
        }
    }
}

/// What an answer asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    name: String,
    ngram: Option<NgramOptions>,
    trained: Option<Trained>,
    size: Size,
}

impl Request {
    /// From `drafter`, `draftTokens`, `matches`, `fixedDraft` and `tree`.
    pub fn read(fields: &mut Fields) -> Result<Self, JsValue> {
        let name = match fields.take("drafter") {
            None => "ngram".to_owned(),
            Some(value) => value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned),
        };
        let (ngram, rest) = match name.strip_prefix("ngram+") {
            Some(rest) => (true, rest),
            None => (name == "ngram", name.as_str()),
        };
        let trained = Trained::NAMES.iter().find(|(known, _)| *known == rest);
        if trained.is_none() && !["none", "ngram"].contains(&name.as_str()) {
            return Err(fail(
                Code::Argument,
                format!(
                    "`drafter` must be none, ngram, mtp, medusa or exit, or one of the last three after `ngram+`, \
                     given {name}"
                ),
            ));
        }
        let size = Size::read(fields)?;
        let usual = NgramOptions::default();
        let options = NgramOptions {
            max_tokens: match (fields.u32("draftTokens")?, &size) {
                (Some(tokens), _) => tokens as usize,
                (None, Size::Chain(tokens)) => *tokens,
                (None, _) => usual.max_tokens,
            },
            matches: match (fields.u32("matches")?, &size) {
                (Some(matches), _) => matches as usize,
                // Trees are wanted: they need more than one continuation.
                (None, Size::Auto | Size::Nodes(_)) => 4,
                (None, _) => usual.matches,
            },
            adapt: !fields.bool("fixedDraft")?,
            ..usual
        };
        Ok(Self {
            ngram: ngram.then_some(options),
            trained: trained.map(|(_, kind)| *kind),
            size,
            name,
        })
    }
}

impl Drafters {
    /// Keeps a drafter.
    pub fn insert(&mut self, kind: Trained, drafter: Box<dyn Drafter>) {
        self.trained.insert(kind, Rc::new(RefCell::new(drafter)));
        self.costs.retain(|name, _| !name.ends_with(kind.name()));
        self.adaptive = None;
    }

    /// What was measured, JSON of each drafter.
    pub fn costs(&self) -> BTreeMap<String, String> {
        let costs = self.costs.iter();
        costs
            .map(|(name, costs)| (name.clone(), costs.to_json()))
            .collect()
    }

    /// Takes what was measured before for the drafter `name`, where it is that and nothing is known yet.
    pub fn know(&mut self, name: &str, costs: &str) {
        if let Some(costs) = StepCosts::from_json(costs) {
            self.costs.entry(name.to_owned()).or_insert(costs);
        }
    }

    /// Names of the drafters that are loaded.
    pub fn names(&self) -> Vec<&'static str> {
        let known = Trained::NAMES.iter();
        let loaded = known.filter(|(_, kind)| self.trained.contains_key(kind));
        loaded.map(|(name, _)| *name).collect()
    }

    /// Gives `session` the drafter of `request`. Costs are measured where they are needed and not known, for which
    /// the sequence is forgotten.
    pub async fn install(
        &mut self,
        session: &mut Session,
        request: &Request,
    ) -> Result<(), JsValue> {
        if let Some((asked, drafter)) = &self.adaptive
            && asked == request
        {
            session.set_drafter(Shared::of(drafter));
            return Ok(());
        }
        let drafter = self.make(request)?;
        session.set_drafter(match request.size {
            Size::Chain(tokens) => Box::new(Bounded::chain(drafter, tokens)),
            Size::Nodes(nodes) => Box::new(Bounded::tree(drafter, nodes)),
            Size::Usual | Size::Auto => drafter,
        });
        if !matches!(request.size, Size::Auto) {
            return Ok(());
        }
        let costs = match self.costs.get(&request.name) {
            Some(costs) => costs.clone(),
            None => {
                let measured = session.measure_costs().await;
                let costs = measured.map_err(|error| fail(Code::Generate, error))?;
                self.costs.insert(request.name.clone(), costs.clone());
                costs
            }
        };
        let drafter: Box<dyn Drafter> =
            Box::new(Auto::new(self.make(request)?, costs).by_the_clock());
        let drafter = Rc::new(RefCell::new(drafter));
        session.set_drafter(Shared::of(&drafter));
        self.adaptive = Some((request.clone(), drafter));
        Ok(())
    }

    /// Whether [`install`](Self::install) will measure.
    pub fn measures(&self, request: &Request) -> bool {
        matches!(request.size, Size::Auto) && !self.costs.contains_key(&request.name)
    }

    fn make(&self, request: &Request) -> Result<Box<dyn Drafter>, JsValue> {
        let ngram = match request.ngram {
            Some(options) => {
                let made = NgramDrafter::new(options);
                Some(made.map_err(|error| fail(Code::Argument, error))?)
            }
            None => None,
        };
        let trained = match request.trained {
            Some(kind) => Some(self.shared(kind)?),
            None => None,
        };
        Ok(match (ngram, trained) {
            (None, None) => Box::new(NoDrafter),
            (Some(ngram), None) => Box::new(ngram),
            (None, Some(trained)) => trained,
            (Some(ngram), Some(trained)) => {
                Box::new(FirstOf::new(Box::new(ngram), trained, LEAST_FOUND))
            }
        })
    }

    fn shared(&self, kind: Trained) -> Result<Box<dyn Drafter>, JsValue> {
        let name = kind.name();
        match self.trained.get(&kind) {
            Some(drafter) => Ok(Shared::of(drafter)),
            None => Err(fail(
                Code::Argument,
                format!(
                    "the drafter `{name}` needs its weights; load them with `generator.loadDrafter`"
                ),
            )),
        }
    }
}
