//! Chains that a drafter draws by chance: the law of the text, and what is kept.

use std::io::Cursor;

use sunfleck::{
    draft::{
        Bounded, Drafter, ExitDrafter, ExitOptions, ModelDrafter, MtpDrafter, MtpOptions, NoDrafter,
    },
    generate::{DraftChoice, GenerateOptions, Session, TokenChoice},
    gpu::Gpu,
    model::{Decoder, DecoderOptions, Gguf},
    verify::{Rule, Sampling},
};

use crate::{
    adapters::on_every_adapter,
    decoder::{open, options},
    drafters::Tensors,
    mtp::tiny_module,
    random::Random,
    sampling::{PROMPT, WARM, file, law, misfit, model, small},
};

/// Drafted tokens of a chain.
const TOKENS: usize = 3;

/// Drafters of the model of `file`, each with weights of its own.
struct Drafters {
    file: Vec<u8>,
    module: Vec<u8>,
    exit: Vec<u8>,
    other: Vec<u8>,
}

impl Drafters {
    fn new() -> Self {
        let (target, weights) = file(&mut Random(21));
        let mut random = Random(77);
        let (module, _) = tiny_module(&small(), &weights, &mut random);
        let width = small().width;
        let mut tensors = Tensors::new(&mut random);
        tensors.add("exit.1.norm.weight", &[width], 1.0);
        tensors.add("exit.1.linear.weight", &[width, width], 1.0);
        tensors.add("exit.1.linear.bias", &[width], 1.0);
        Self {
            file: target,
            module,
            exit: tensors.bytes(),
            other: file(&mut Random(5)).0,
        }
    }

    fn load(&self, gpu: &Gpu, decoder: &Decoder, name: &str) -> Box<dyn Drafter> {
        let gguf = Gguf::read(&mut Cursor::new(&self.file)).unwrap();
        let reader = &mut Cursor::new(&self.file);
        match name {
            "mtp" => {
                let options = MtpOptions {
                    tokens: TOKENS,
                    // Token 1 can't be drafted.
                    vocabulary: vec![3, 0, 2],
                    ..MtpOptions::default()
                };
                let module = &self.module;
                let loaded = MtpDrafter::load(gpu, decoder, &gguf, reader, module, &options);
                Box::new(pollster::block_on(loaded).unwrap())
            }
            "exit" => {
                let options = ExitOptions {
                    layers: 1,
                    tokens: TOKENS,
                    vocabulary: Vec::new(),
                };
                let exit = &self.exit;
                let loaded = ExitDrafter::load(gpu, decoder, &gguf, reader, exit, &options);
                Box::new(pollster::block_on(loaded).unwrap())
            }
            _ => {
                let options = DecoderOptions {
                    max_draft: 0,
                    ..options()
                };
                let draft = open(gpu, &self.other, options, Box::new(NoDrafter)).into_decoder();
                Box::new(ModelDrafter::new(gpu, decoder, draft, TOKENS).unwrap())
            }
        }
    }
}

/// The first three of six tokens: so that drafts are as long as they can be.
fn beginning(session: &mut Session, choice: TokenChoice) -> Vec<u32> {
    session.reset();
    let options = GenerateOptions {
        max_tokens: 6,
        choice,
        ..Default::default()
    };
    let stream = session.generate(&PROMPT, options);
    stream.take(3).map(|token| token.unwrap().id).collect()
}

fn drawn(rule: Rule, sampling: Sampling, seed: u64) -> TokenChoice {
    TokenChoice {
        rule,
        drafts: DraftChoice::Drawn,
        ..TokenChoice::sampled(sampling, seed)
    }
}

#[test]
fn text_from_drawn_drafts_has_the_models_law() {
    let full = std::env::var_os("SUNFLECK_FULL").is_some();
    let texts = if full { 2000 } else { 500 };
    on_every_adapter(|gpu| {
        if gpu.is_slow() || !gpu.name.contains("all features") {
            return;
        }
        let (mut session, mut twin) = model(gpu);
        let law = law(&mut twin, |_, _| ());
        let drafters = Drafters::new();
        for (name, rule) in [
            ("mtp", Rule::Rejection),
            ("exit", Rule::Traversal),
            ("model", Rule::Block),
        ] {
            let drafter = drafters.load(&gpu.gpu, session.decoder(), name);
            session.set_drafter(drafter);
            let given: Vec<Vec<u32>> = (0..texts)
                .map(|seed| beginning(&mut session, drawn(rule, WARM, seed)))
                .collect();
            let ratio = misfit(&given, &law);
            assert!(ratio < 1.0, "{}: {ratio} with {name}", gpu.name);
            if name == "mtp" {
                // The test sees a wrong law: that of a lower temperature.
                let cold = Sampling {
                    temperature: 0.7,
                    ..WARM
                };
                let given: Vec<Vec<u32>> = (0..texts)
                    .map(|seed| beginning(&mut session, drawn(rule, cold, seed)))
                    .collect();
                let ratio = misfit(&given, &law);
                assert!(ratio > 1.0, "{}: {ratio} for another law", gpu.name);
            }
        }
    });
}

#[test]
fn a_model_that_drafts_for_itself_by_chance_is_always_right() {
    on_every_adapter(|gpu| {
        if gpu.is_slow() || !gpu.name.contains("all features") {
            return;
        }
        let (mut session, _) = model(gpu);
        let mut drafters = Drafters::new();
        drafters.other.clone_from(&drafters.file);
        let model = drafters.load(&gpu.gpu, session.decoder(), "model");
        session.set_drafter(Box::new(Bounded::chain(model, 2)));
        // Also cut: the drafts are cut as the text is.
        for top_k in [0, 2] {
            let sampling = Sampling { top_k, ..WARM };
            session.reset();
            let choice = drawn(Rule::Rejection, sampling, 9);
            pollster::block_on(session.set_choice(choice)).unwrap();
            pollster::block_on(session.read_prompt(&PROMPT, &mut |_, _| ())).unwrap();
            let mut tokens = Vec::new();
            for _ in 0..8 {
                let step = pollster::block_on(session.step(16)).unwrap();
                // Both distributions are the same but for rounding.
                assert_eq!((step.drafted, step.accepted), (2, 2), "{}", gpu.name);
                assert_eq!(step.draft.tokens()[1..], step.tokens[..2]);
                tokens.extend(step.tokens);
            }
            // Chance was at work: one token over and over would be the likeliest one's doing.
            tokens.sort_unstable();
            tokens.dedup();
            assert!(tokens.len() > 1, "{tokens:?}");
        }
        // The greedy rule has no use for chance, and the likeliest are drafted.
        let greedy = TokenChoice {
            drafts: DraftChoice::Drawn,
            ..TokenChoice::default()
        };
        pollster::block_on(session.set_choice(greedy)).unwrap();
        let step = pollster::block_on(session.step(16)).unwrap();
        assert_eq!(step.accepted, 2);
    });
}
