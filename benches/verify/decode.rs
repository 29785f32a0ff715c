//! A decoded token of the model that a verification stands beside.

use std::{fs::File, io::BufReader, time::Instant};

use sunfleck::{
    draft::{NgramDrafter, NgramOptions, NoDrafter, StepCosts},
    generate::Session,
    gpu::Gpu,
    model::{Decoder, DecoderOptions, Gguf},
};

use crate::{cases::NODES, processor, statistics::Spread};

/// Tokens of the prompt, and of what is decoded after it in one round.
const PROMPT: u32 = 128;
const STEPS: usize = 12;

/// What a decoded token takes.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    pub seconds: Spread,
    /// Processor time, where the system tells.
    pub processor: Option<Spread>,
}

/// The model that `SUNFLECK_MODEL` names, for steps that check as many drafted tokens; `None` without one.
fn decoder(gpu: &Gpu, max_draft: u32) -> Option<Decoder> {
    let path = std::env::var("SUNFLECK_MODEL").ok()?;
    let mut reader = BufReader::new(File::open(path).expect("the model file"));
    let gguf = Gguf::read(&mut reader).expect("a GGUF file");
    let options = DecoderOptions {
        context: 512,
        max_draft,
        ..Default::default()
    };
    let mut quiet = |_, _| ();
    let load = Decoder::load(gpu, &gguf, &mut reader, options, &mut quiet);
    Some(pollster::block_on(load).expect("a model"))
}

/// What a step of the model costs that checks a tree, for every number of nodes, with greedy verification: the step
/// that a verification belongs to. `None` without a model.
pub fn step_costs(gpu: &Gpu) -> Option<StepCosts> {
    let most = NODES.iter().max()? - 1;
    // A drafter that costs nothing.
    let options = NgramOptions {
        max_tokens: most as usize,
        ..NgramOptions::default()
    };
    let drafter = NgramDrafter::new(options).expect("a drafter");
    let mut session = Session::new(gpu, decoder(gpu, most)?, Box::new(drafter));
    Some(pollster::block_on(session.measure_costs()).expect("steps"))
}

/// Decodes one token at a time, greedily.
pub struct Decode {
    session: Session,
    start: usize,
}

impl Decode {
    /// With the model that `SUNFLECK_MODEL` names; `None` without one.
    pub fn from_environment(gpu: &Gpu) -> Option<Self> {
        let decoder = decoder(gpu, 0)?;
        let mut session = Session::new(gpu, decoder, Box::new(NoDrafter));
        let prompt: Vec<u32> = (0..PROMPT).map(|token| 1000 + token * 17).collect();
        pollster::block_on(session.read_prompt(&prompt, &mut |_, _| ())).expect("a prompt");
        let start = session.tokens().len();
        Some(Self { session, start })
    }

    /// Seconds of the decoded tokens of one round.
    pub fn measure(&mut self) -> Option<Token> {
        let (mut seconds, mut processor) = (Vec::new(), Vec::new());
        self.session.rewind(self.start);
        for _ in 0..STEPS {
            let began = Instant::now();
            let step = || pollster::block_on(self.session.step(1)).expect("a step");
            processor.extend(processor::measured(step).1);
            seconds.push(began.elapsed().as_secs_f64());
        }
        Some(Token {
            seconds: Spread::of(seconds)?,
            processor: Spread::of(processor),
        })
    }
}
