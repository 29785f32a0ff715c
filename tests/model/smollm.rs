//! SmolLM2-135M-Instruct itself, from the file that `SUNFLECK_MODEL` names.

use std::{fs::File, io::BufReader};

use sunfleck::{
    attention::Element,
    draft::{Drafter, NgramDrafter, NgramOptions, NoDrafter},
    generate::{GenerateOptions, Session},
    model::{ChatTemplate, Decoder, DecoderOptions, Gguf, Tokenizer},
};

use crate::adapters::{TestGpu, on_every_adapter};

type Reader = BufReader<File>;

fn open() -> (Gguf, Reader) {
    let path = std::env::var("SUNFLECK_MODEL").expect(
        "SUNFLECK_MODEL must name SmolLM2-135M-Instruct.Q4_1.gguf; `cargo xtask test` sets it",
    );
    let mut reader = BufReader::new(File::open(&path).expect(&path));
    let gguf = Gguf::read(&mut reader).expect(&path);
    (gguf, reader)
}

fn session(gpu: &TestGpu) -> (Session, Tokenizer, ChatTemplate) {
    session_with(gpu, DecoderOptions::default())
}

fn session_with(gpu: &TestGpu, options: DecoderOptions) -> (Session, Tokenizer, ChatTemplate) {
    let (gguf, mut reader) = open();
    let options = DecoderOptions {
        context: 1024,
        ..options
    };
    let mut quiet = |_, _| ();
    let decoder = Decoder::load(&gpu.gpu, &gguf, &mut reader, options, &mut quiet);
    let decoder = pollster::block_on(decoder).unwrap();
    let tokenizer = Tokenizer::from_gguf(&gguf).unwrap();
    let template = ChatTemplate::from_gguf(&gguf).unwrap();
    (
        Session::new(&gpu.gpu, decoder, Box::new(NoDrafter)),
        tokenizer,
        template,
    )
}

fn answer(session: &mut Session, prompt: &[u32], max_tokens: usize, ends: &[u32]) -> Vec<u32> {
    session.reset();
    let options = GenerateOptions {
        max_tokens,
        end_tokens: ends.to_vec(),
        ..Default::default()
    };
    session
        .generate(prompt, options)
        .map(|token| token.unwrap().id)
        .collect()
}

/// Where a whole model is quick: on lavapipe and on a GPU, not on SwiftShader.
fn on_quick_adapters(test: impl Fn(&TestGpu)) {
    on_every_adapter(|gpu| {
        if !gpu.is_slow() && gpu.name.contains("all features") {
            test(gpu);
        }
    });
}

/// Story, code, list, question, repetition, and more of other kinds.
const PROMPTS: [&str; 10] = [
    "Write a short story about a fox who finds a mirror.",
    "Write a Python function that returns the n-th Fibonacci number.",
    "List ten fruits, one a line.",
    "Why is the sky blue?",
    "Repeat this sentence three times: The quick brown fox jumps over the lazy dog.",
    "Summarise: The cat sat on the mat. The cat was happy. The mat was warm. The cat slept.",
    "Translate to French: Good morning, my friend.",
    "Rename x to total in this code: x = 0\nfor i in range(10):\n    x = x + i\nprint(x)",
    "What is 12 + 30? Explain step by step.",
    "Write a poem that uses the word sunlight in every line.",
];

#[test]
fn greedy_text_is_the_known_text_on_every_adapter() {
    on_every_adapter(|gpu| {
        if !gpu.name.contains("all features") {
            return;
        }
        // On SwiftShader a token takes most of a second.
        let (mut session, tokenizer, _) = session(gpu);
        let prompt = tokenizer
            .encode_prompt("Once upon a time, there was a little robot who")
            .unwrap();
        let known = " had a special ability to make people happy. He was called \"The Happy One\" \
                     by his friends.";
        let tokens = if gpu.name.contains("SwiftShader") {
            9
        } else {
            21
        };
        let text = tokenizer
            .decode(&answer(&mut session, &prompt, tokens, &[]))
            .unwrap();
        assert!(known.starts_with(&text), "{}: {text:?}", gpu.name);
        assert!(text.len() > 40, "{}: {text:?}", gpu.name);
    });
}

#[test]
fn ngram_drafts_never_change_the_text() {
    on_quick_adapters(|gpu| {
        let (mut session, tokenizer, template) = session(gpu);
        let ends = tokenizer.end_tokens();
        let mut kept = 0;
        for text in PROMPTS {
            let prompt = template.user_turn(&tokenizer, text).unwrap();
            session.set_drafter(Box::new(NoDrafter));
            let plain = answer(&mut session, &prompt, 48, &ends);
            for matches in [1, 3] {
                let options = NgramOptions {
                    matches,
                    min_ngram: 1,
                    ..Default::default()
                };
                let ngram: Box<dyn Drafter> = Box::new(NgramDrafter::new(options).unwrap());
                session.set_drafter(ngram);
                session.reset();
                let options = GenerateOptions {
                    max_tokens: 48,
                    end_tokens: ends.clone(),
                    ..Default::default()
                };
                let mut stream = session.generate(&prompt, options);
                let drafted: Vec<u32> = stream.by_ref().map(|token| token.unwrap().id).collect();
                assert_eq!(drafted, plain, "{text:?} with {matches} matches");
                kept += stream.statistics().accepted;
            }
        }
        assert!(
            kept > 50,
            "only {kept} drafted tokens were kept: the look-up does not work"
        );
    });
}

/// Between the logits of f32's token and f16's where the texts part: what f16 storage of keys and values may
/// change. See docs/caches.md.
const F16_LOGIT_GAP: f32 = 0.05;

#[test]
fn text_with_an_f16_cache_parts_from_f32s_at_near_ties_only() {
    on_quick_adapters(|gpu| {
        let (mut session, tokenizer, template) = session(gpu);
        let paged = DecoderOptions {
            cache: Element::F16,
            page: Some(16),
            ..Default::default()
        };
        let (mut f16, ..) = session_with(gpu, paged);
        let ngram = NgramDrafter::new(NgramOptions::default()).unwrap();
        f16.set_drafter(Box::new(ngram));
        let ends = tokenizer.end_tokens();
        for text in PROMPTS {
            let prompt = template.user_turn(&tokenizer, text).unwrap();
            let plain = answer(&mut session, &prompt, 48, &ends);
            let rounded = answer(&mut f16, &prompt, 48, &ends);
            let Some(at) = (0..plain.len()).find(|at| rounded.get(*at) != Some(&plain[*at])) else {
                continue;
            };
            let known = [&prompt[..], &plain[..at]].concat();
            session.reset();
            pollster::block_on(session.read_prompt(&known, &mut |_, _| ())).unwrap();
            let logits: Vec<f32> = gpu.read(session.decoder().logits());
            let gap = logits[plain[at] as usize] - logits[rounded[at] as usize];
            assert!(
                gap.abs() < F16_LOGIT_GAP,
                "{text:?} token {at}: {gap} apart"
            );
        }
    });
}

#[test]
fn weights_stay_quantised() {
    on_quick_adapters(|gpu| {
        // A counter of its own: other tests allocate on this device meanwhile.
        let (session, ..) = session(&gpu.afresh());
        let bytes = session.decoder().gpu_bytes();
        assert!(
            bytes < 180_000_000,
            "{bytes} bytes at 1,024 tokens of context"
        );
    });
}
