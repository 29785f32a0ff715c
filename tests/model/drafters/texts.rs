//! At temperature 0 every drafter and tree gives exactly the tokens of plain decoding, on SmolLM2-135M-Instruct with the
//! trained weights; and what is kept a step.

use std::{
    fs::File,
    io::{BufReader, Cursor},
};

use sunfleck::{
    draft::{
        Drafter, DrafterLoadError, ExitDrafter, ExitOptions, FirstOf, MedusaDrafter, MedusaOptions,
        ModelDrafter, MtpDrafter, MtpOptions, NgramDrafter, NgramOptions, NoDrafter,
        check_same_vocabulary,
    },
    generate::{Session, TokenChoice},
    model::{ChatTemplate, Decoder, DecoderOptions, Gguf, Tokenizer},
    verify::{LossyTypical, Rule},
};

use crate::{
    adapters::{TestGpu, on_every_adapter},
    decoder::{config, open as open_tiny, options},
    gguf_writer::{Storage, Value, tiny_llama},
    random::Random,
};

const MTP: &[u8] = include_bytes!("../../../models/smollm2-135m-instruct/mtp.safetensors");
const MEDUSA: &[u8] = include_bytes!("../../../models/smollm2-135m-instruct/medusa.safetensors");
const EXIT: &[u8] = include_bytes!("../../../models/smollm2-135m-instruct/early_exit.safetensors");
const RANKS: &str = include_str!("../../../models/smollm2-135m-instruct/token_rank.json");
const PROMPTS: &str = include_str!("../../../models/smollm2-135m-instruct/prompts.json");

/// A prompt of the model's folder.
struct Prompt {
    id: String,
    kind: String,
    text: String,
}

fn prompts() -> Vec<Prompt> {
    let listed: Vec<serde_json::Value> = serde_json::from_str(PROMPTS).unwrap();
    let prompts: Vec<Prompt> = (listed.iter())
        .map(|prompt| {
            let field = |name: &str| prompt[name].as_str().unwrap().to_owned();
            Prompt {
                id: field("id"),
                kind: field("kind"),
                text: field("text"),
            }
        })
        .collect();
    assert_eq!(prompts.len(), 50);
    for kind in ["chat", "story", "code-edit", "summarise", "question"] {
        assert_eq!(prompts.iter().filter(|p| p.kind == kind).count(), 10);
    }
    prompts
}

fn vocabulary() -> Vec<u32> {
    let mut ranks: Vec<u32> = serde_json::from_str(RANKS).unwrap();
    ranks.truncate(8192);
    ranks
}

struct Model {
    session: Session,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    gguf: Gguf,
    reader: BufReader<File>,
}

impl Model {
    fn open(gpu: &TestGpu) -> Self {
        let path = std::env::var("SUNFLECK_MODEL").expect("SUNFLECK_MODEL names the demo model");
        let mut reader = BufReader::new(File::open(&path).unwrap());
        let gguf = Gguf::read(&mut reader).unwrap();
        let options = DecoderOptions {
            context: 640,
            max_draft: 31,
            ..Default::default()
        };
        let mut quiet = |_, _| ();
        let decoder = Decoder::load(&gpu.gpu, &gguf, &mut reader, options, &mut quiet);
        let decoder = pollster::block_on(decoder).unwrap();
        Self {
            session: Session::new(&gpu.gpu, decoder, Box::new(NoDrafter)),
            tokenizer: Tokenizer::from_gguf(&gguf).unwrap(),
            template: ChatTemplate::from_gguf(&gguf).unwrap(),
            gguf,
            reader,
        }
    }

    fn drafter(&mut self, gpu: &TestGpu, name: &str) -> Box<dyn Drafter> {
        let (decoder, gguf, reader) = (self.session.decoder(), &self.gguf, &mut self.reader);
        let gpu = &gpu.gpu;
        let vocabulary = vocabulary();
        let ngram = || Box::new(NgramDrafter::new(NgramOptions::default()).unwrap());
        if let Some(second) = name.strip_prefix("ngram+") {
            return Box::new(FirstOf::new(ngram(), self.drafter_of(gpu, second), 2));
        }
        match name {
            "ngram" => ngram(),
            "ngram-tree" => {
                let options = NgramOptions {
                    matches: 8,
                    ..Default::default()
                };
                Box::new(NgramDrafter::new(options).unwrap())
            }
            "mtp" | "mtp-tree" | "mtp-tree-32" => {
                let options = MtpOptions {
                    nodes: match name {
                        "mtp" => 1,
                        "mtp-tree" => 16,
                        _ => 32,
                    },
                    vocabulary,
                    ..Default::default()
                };
                let mtp = MtpDrafter::load(gpu, decoder, gguf, reader, MTP, &options);
                Box::new(pollster::block_on(mtp).unwrap())
            }
            "medusa" => {
                let options = MedusaOptions {
                    nodes: 32,
                    vocabulary,
                    ..Default::default()
                };
                let medusa = MedusaDrafter::load(gpu, decoder, gguf, reader, MEDUSA, &options);
                Box::new(pollster::block_on(medusa).unwrap())
            }
            "exit-6" | "exit-12" => {
                let options = ExitOptions {
                    layers: if name == "exit-6" { 6 } else { 12 },
                    vocabulary,
                    ..Default::default()
                };
                let exit = ExitDrafter::load(gpu, decoder, gguf, reader, EXIT, &options);
                Box::new(pollster::block_on(exit).unwrap())
            }
            "model" => {
                // The model itself: every draft is right.
                let options = DecoderOptions {
                    context: 640,
                    max_draft: 0,
                    ..Default::default()
                };
                let mut quiet = |_, _| ();
                let draft = Decoder::load(gpu, gguf, reader, options, &mut quiet);
                let draft = pollster::block_on(draft).unwrap();
                Box::new(ModelDrafter::new(gpu, decoder, draft, 4).unwrap())
            }
            _ => panic!("no drafter is called {name}"),
        }
    }

    fn drafter_of(&mut self, gpu: &sunfleck::gpu::Gpu, name: &str) -> Box<dyn Drafter> {
        let gpu = TestGpu {
            name: String::new(),
            gpu: gpu.clone(),
        };
        self.drafter(&gpu, name)
    }

    fn read(&mut self, text: &str) -> u32 {
        let prompt = self.template.user_turn(&self.tokenizer, text).unwrap();
        self.session.reset();
        pollster::block_on(self.session.read_prompt(&prompt, &mut |_, _| ())).unwrap()
    }

    /// `count` tokens after a prompt, the steps they took and the drafted tokens kept in them.
    fn answer(&mut self, text: &str, count: usize) -> (Vec<u32>, usize, usize) {
        let first = self.read(text);
        let session = &mut self.session;
        let (mut tokens, mut steps, mut kept) = (vec![first], 0, 0);
        while tokens.len() < count {
            // No wish for fewer tokens, so that the last step drafts as many as the others.
            let step = pollster::block_on(session.step(usize::MAX)).unwrap();
            tokens.extend(step.tokens);
            (steps, kept) = (steps + 1, kept + step.accepted);
        }
        tokens.truncate(count);
        (tokens, steps, kept)
    }
}

#[test]
fn every_drafter_keeps_the_text() {
    let full = std::env::var_os("SUNFLECK_FULL").is_some();
    let chosen = std::env::var("SUNFLECK_DRAFTERS").ok();
    let all = [
        "mtp-tree",
        "medusa",
        "exit-6",
        "model",
        "ngram+medusa",
        "ngram-tree",
        "ngram",
        "mtp",
        "mtp-tree-32",
        "exit-12",
        "ngram+mtp",
    ];
    let names: Vec<&str> = match &chosen {
        Some(names) => names.split(',').collect(),
        None if full => all.to_vec(),
        None => all[..5].to_vec(),
    };
    let mut prompts = prompts();
    let count = if full { 128 } else { 24 };
    if !full {
        // One of each kind.
        prompts.retain(|prompt| prompt.id.ends_with("-1"));
    }
    on_every_adapter(|gpu| {
        if gpu.is_slow() || !gpu.name.contains("all features") {
            return;
        }
        let mut model = Model::open(gpu);
        let plain: Vec<Vec<u32>> = (prompts.iter())
            .map(|prompt| model.answer(&prompt.text, count).0)
            .collect();
        for name in &names {
            let drafter = model.drafter(gpu, name);
            model.session.set_drafter(drafter);
            let mut totals: Vec<(&str, usize, usize)> = Vec::new();
            let mut means = Vec::new();
            for (prompt, plain) in prompts.iter().zip(&plain) {
                let (tokens, steps, kept) = model.answer(&prompt.text, count);
                assert_eq!(&tokens, plain, "{name}, prompt {}", prompt.id);
                means.push(kept as f64 / steps as f64);
                match totals.iter_mut().find(|(kind, ..)| *kind == prompt.kind) {
                    Some(total) => (total.1, total.2) = (total.1 + steps, total.2 + kept),
                    None => totals.push((&prompt.kind, steps, kept)),
                }
            }
            let per_step = |steps: usize, kept: usize| kept as f64 / steps as f64;
            let (steps, kept) = (totals.iter()).fold((0, 0), |(s, k), t| (s + t.1, k + t.2));
            let mean = means.iter().sum::<f64>() / means.len() as f64;
            let kinds: Vec<String> = (totals.iter())
                .map(|(kind, steps, kept)| format!("{kind} {:.2}", per_step(*steps, *kept)))
                .collect();
            eprintln!(
                "{name}: {:.2} drafted tokens kept a step (mean of answers {mean:.2}): {}",
                per_step(steps, kept),
                kinds.join(", ")
            );
            if *name == "model" {
                assert_eq!(kept, 4 * steps, "a model's drafts for itself are right");
            }
            let least = match *name {
                "mtp-tree" => 1.0,
                "medusa" => 0.5,
                "exit-6" => 0.3,
                _ => 0.0,
            };
            assert!(per_step(steps, kept) >= least, "{name} keeps too little");
        }
    });
}

#[test]
fn medusa_drafts_are_accepted_by_the_typical_rule_and_all_sampling_needs() {
    on_every_adapter(|gpu| {
        if gpu.is_slow() || !gpu.name.contains("all features") {
            return;
        }
        let mut model = Model::open(gpu);
        let text = &prompts()[0].text;
        let (plain, ..) = model.answer(text, 20);
        for name in ["medusa", "mtp-tree"] {
            let drafter = model.drafter(gpu, name);
            model.session.set_drafter(drafter);
            // Sampled from one token: what is left of the law at top-k 1 is the argmax.
            let mut choice = TokenChoice::default();
            choice.sampling.temperature = 0.7;
            choice.sampling.top_k = 1;
            pollster::block_on(model.session.set_choice(choice)).unwrap();
            assert_eq!(model.answer(text, 20).0, plain, "{name}");
            // Lossy: it keeps more, and not the same text.
            let typical = LossyTypical {
                epsilon: 0.3,
                delta: 0.3,
            };
            let choice = TokenChoice {
                rule: Rule::LossyTypical(typical),
                seed: 4,
                ..TokenChoice::default()
            };
            let mut choice = choice;
            choice.sampling.temperature = 0.7;
            pollster::block_on(model.session.set_choice(choice)).unwrap();
            let (tokens, steps, kept) = model.answer(text, 20);
            assert_eq!(tokens.len(), 20);
            assert!(kept > 0 && steps < 20, "{name}: {kept} in {steps} steps");
            // A rule for chains refuses a tree that branches.
            let choice = TokenChoice {
                rule: Rule::Block,
                ..choice
            };
            pollster::block_on(model.session.set_choice(choice)).unwrap();
            model.read(text);
            assert!(pollster::block_on(model.session.step(16)).is_err());
            pollster::block_on(model.session.set_choice(TokenChoice::default())).unwrap();
        }
    });
}

#[test]
fn mtp_drafts_go_on_after_restore_shift_and_exchange() {
    on_every_adapter(|gpu| {
        if gpu.is_slow() || !gpu.name.contains("all features") {
            return;
        }
        let mut model = Model::open(gpu);
        let text = &prompts()[10].text;
        let (plain, ..) = model.answer(text, 40);
        let mtp = model.drafter(gpu, "mtp-tree");
        model.session.set_drafter(mtp);
        let first = model.read(text);
        let mut tokens = vec![first];
        while tokens.len() < 10 {
            tokens.extend(pollster::block_on(model.session.step(64)).unwrap().tokens);
        }
        let saved = pollster::block_on(model.session.save()).unwrap();
        // Another text in between, so that the module's cache holds other keys.
        model.answer("Name the colours of the rainbow.", 8);
        model.session.restore(&saved).unwrap();
        let go_on = |model: &mut Model, mut tokens: Vec<u32>| {
            let (mut kept, mut steps) = (0, 0);
            while tokens.len() < 40 {
                let step = pollster::block_on(model.session.step(64)).unwrap();
                (kept, steps) = (kept + step.accepted, steps + 1);
                tokens.extend(step.tokens);
            }
            tokens.truncate(40);
            assert_eq!(tokens, plain);
            assert!(kept * 2 > steps, "{kept} kept in {steps} steps");
        };
        go_on(&mut model, tokens.clone());
        // Put into the middle of a text.
        let mtp = model.drafter(gpu, "mtp-tree");
        model.session.restore(&saved).unwrap();
        model.session.set_drafter(mtp);
        go_on(&mut model, tokens);

        // After a shift the rest of the text is read anew, and drafts are as after a prompt.
        let length = model.session.tokens().len();
        pollster::block_on(model.session.shift_context(4)).unwrap();
        assert!(model.session.tokens().len() < length);
        let shifted = model.session.tokens().to_vec();
        let drafted: Vec<u32> = (0..6)
            .flat_map(|_| pollster::block_on(model.session.step(64)).unwrap().tokens)
            .collect();
        model.session.reset();
        model.session.set_drafter(Box::new(NoDrafter));
        let mut tokens =
            vec![pollster::block_on(model.session.read_prompt(&shifted, &mut |_, _| ())).unwrap()];
        while tokens.len() < drafted.len() {
            tokens.extend(pollster::block_on(model.session.step(1)).unwrap().tokens);
        }
        assert_eq!(drafted, tokens);
    });
}

#[test]
fn what_does_not_fit_the_model_is_refused() {
    on_every_adapter(|gpu| {
        if !gpu.runs_models() || gpu.is_slow() || !gpu.name.contains("all features") {
            return;
        }
        let storage = Storage {
            matrices: sunfleck::reference::blocks::BlockFormat::F32,
            odd_ones: sunfleck::reference::blocks::BlockFormat::F32,
            tied: true,
        };
        let mut random = Random(3);
        let (file, _) = tiny_llama(&config(), storage, |n| random.normals(n));
        let bytes = file.bytes();
        let session = open_tiny(&gpu.gpu, &bytes, options(), Box::new(NoDrafter));
        let gguf = Gguf::read(&mut Cursor::new(&bytes)).unwrap();
        let (decoder, reader) = (session.decoder(), &mut Cursor::new(&bytes));
        let options_ = MedusaOptions::default();
        let refused = MedusaDrafter::load(&gpu.gpu, decoder, &gguf, reader, MTP, &options_);
        let refused = pollster::block_on(refused).unwrap_err();
        assert!(
            matches!(refused, DrafterLoadError::Missing { .. }),
            "{refused}"
        );
        let refused = MedusaDrafter::load(&gpu.gpu, decoder, &gguf, reader, MEDUSA, &options_);
        let refused = pollster::block_on(refused).unwrap_err();
        assert!(
            matches!(refused, DrafterLoadError::Shape { .. }),
            "{refused}"
        );
        let no_exit = ExitOptions {
            layers: 2,
            ..Default::default()
        };
        let refused = ExitDrafter::load(&gpu.gpu, decoder, &gguf, reader, EXIT, &no_exit);
        let refused = pollster::block_on(refused).unwrap_err();
        assert!(
            matches!(refused, DrafterLoadError::Option { .. }),
            "{refused}"
        );
        let one = ExitOptions {
            layers: 1,
            ..Default::default()
        };
        let refused = ExitDrafter::load(&gpu.gpu, decoder, &gguf, reader, EXIT, &one);
        let refused = pollster::block_on(refused).unwrap_err();
        assert!(
            matches!(refused, DrafterLoadError::Missing { .. }),
            "{refused}"
        );

        // A draft model with other tokens.
        let mut other = sunfleck::reference::decoder::DecoderConfig {
            vocab: 131,
            ..config()
        };
        other.layers = 1;
        let (other, _) = tiny_llama(&other, storage, |n| random.normals(n));
        let draft = open_tiny(&gpu.gpu, &other.bytes(), options(), Box::new(NoDrafter));
        let draft = draft.into_decoder();
        let refused = ModelDrafter::new(&gpu.gpu, decoder, draft, 4).unwrap_err();
        assert!(matches!(refused, DrafterLoadError::OtherVocabulary { .. }));
        // A paged cache.
        let paged = DecoderOptions {
            page: Some(16),
            ..options()
        };
        let draft = open_tiny(&gpu.gpu, &bytes, paged, Box::new(NoDrafter)).into_decoder();
        let refused = ModelDrafter::new(&gpu.gpu, decoder, draft, 4).unwrap_err();
        assert!(matches!(refused, DrafterLoadError::Option { .. }));
    });
}

#[test]
fn vocabularies_are_compared_token_by_token() {
    let with = |tokens: &[&str]| {
        let mut file = crate::gguf_writer::GgufWriter::default();
        let tokens = tokens.iter().map(|&token| token.to_owned()).collect();
        file.set("tokenizer.ggml.tokens", Value::Texts(tokens));
        Gguf::read(&mut Cursor::new(file.bytes())).unwrap()
    };
    let target = with(&["a", "b", "c"]);
    assert!(check_same_vocabulary(&target, &with(&["a", "b", "c"])).is_ok());
    let error = check_same_vocabulary(&target, &with(&["a", "x", "c"])).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("\"x\" where the model has \"b\" as token 1")
    );
    let error = check_same_vocabulary(&target, &with(&["a", "b"])).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("2 tokens where the model has 3 tokens")
    );
}
