//! SmolLM2-135M-Instruct with its trained drafters, and the prompts of `models/`.

use std::{fs::File, io::BufReader};

use sunfleck::{
    draft::{
        Drafter, ExitDrafter, ExitOptions, FirstOf, MedusaDrafter, MedusaOptions, ModelDrafter,
        MtpDrafter, MtpOptions, NgramDrafter, NgramOptions, NoDrafter,
    },
    generate::Session,
    model::{ChatTemplate, Decoder, DecoderOptions, Gguf, Tokenizer},
};

use crate::adapters::TestGpu;

pub const MTP: &[u8] = include_bytes!("../../../models/smollm2-135m-instruct/mtp.safetensors");
pub const MEDUSA: &[u8] =
    include_bytes!("../../../models/smollm2-135m-instruct/medusa.safetensors");
pub const EXIT: &[u8] =
    include_bytes!("../../../models/smollm2-135m-instruct/early_exit.safetensors");
const RANKS: &str = include_str!("../../../models/smollm2-135m-instruct/token_rank.json");
const PROMPTS: &str = include_str!("../../../models/smollm2-135m-instruct/prompts.json");

/// A prompt of the model's folder.
pub struct Prompt {
    pub id: String,
    pub kind: String,
    pub text: String,
}

pub fn prompts() -> Vec<Prompt> {
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

pub struct Model {
    pub session: Session,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    gguf: Gguf,
    reader: BufReader<File>,
}

impl Model {
    pub fn open(gpu: &TestGpu) -> Self {
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

    pub fn drafter(&mut self, gpu: &TestGpu, name: &str) -> Box<dyn Drafter> {
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

    pub fn read(&mut self, text: &str) -> u32 {
        let prompt = self.template.user_turn(&self.tokenizer, text).unwrap();
        self.session.reset();
        pollster::block_on(self.session.read_prompt(&prompt, &mut |_, _| ())).unwrap()
    }

    /// `count` tokens after a prompt, whatever they are.
    pub fn answer(&mut self, text: &str, count: usize) -> Answer {
        let first = self.read(text);
        let session = &mut self.session;
        let mut answer = Answer {
            tokens: vec![first],
            ..Answer::default()
        };
        let mut ended = self.tokenizer.is_end(first);
        while answer.tokens.len() < count {
            // No wish for fewer tokens, so that the last step drafts as many as the others.
            let step = pollster::block_on(session.step(usize::MAX)).unwrap();
            answer.steps += 1;
            answer.kept += step.accepted;
            if !ended {
                let end = step.tokens.iter().position(|id| self.tokenizer.is_end(*id));
                ended = end.is_some();
                answer.own_steps += 1;
                answer.own_kept += end.map_or(step.accepted, |end| step.accepted.min(end + 1));
            }
            answer.tokens.extend(step.tokens);
        }
        answer.tokens.truncate(count);
        answer
    }
}

/// Tokens after a prompt, and how they came about.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub tokens: Vec<u32>,
    /// Steps they took.
    pub steps: usize,
    /// Drafted tokens that were kept in them.
    pub kept: usize,
    /// Steps up to the end of the model's turn.
    pub own_steps: usize,
    /// Drafted tokens kept in these, up to that end.
    pub own_kept: usize,
}
