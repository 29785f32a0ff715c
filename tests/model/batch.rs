//! Several answers at once, each as it would be alone.

use std::sync::Arc;

use sunfleck::{
    draft::{Drafter, NgramDrafter, NgramOptions, NoDrafter},
    generate::{
        AnswerId, Batch, Finish, GenerateError, GenerateOptions, Grammar, GrammarError,
        GrammarState, Session, Token, TokenChoice,
    },
    gpu::Gpu,
    model::{Decoder, DecoderOptions, Gguf},
    reference::blocks::BlockFormat,
    verify::{Rule, Sampling},
};

use crate::{
    decoder::{config, options},
    gguf_writer::{Storage, tiny_llama},
    random::Random,
    sampling::Always,
    sessions::on_one_adapter,
};

fn file() -> Vec<u8> {
    let mut random = Random(4);
    let storage = Storage {
        matrices: BlockFormat::Q8_0,
        odd_ones: BlockFormat::F32,
        tied: true,
    };
    tiny_llama(&config(), storage, |n| random.normals(n))
        .0
        .bytes()
}

fn decoder(gpu: &Gpu, options: DecoderOptions) -> Decoder {
    let bytes = file();
    let mut reader = std::io::Cursor::new(bytes);
    let gguf = Gguf::read(&mut reader).unwrap();
    let mut quiet = |_, _| ();
    let load = Decoder::load(gpu, &gguf, &mut reader, options, &mut quiet);
    pollster::block_on(load).unwrap()
}

fn batch(gpu: &Gpu, sequences: u32) -> Batch {
    paged_batch(gpu, sequences, None)
}

fn paged_batch(gpu: &Gpu, sequences: u32, page: Option<u32>) -> Batch {
    let options = DecoderOptions {
        sequences,
        page,
        ..options()
    };
    pollster::block_on(Batch::new(gpu, decoder(gpu, options))).unwrap()
}

/// Tokens of the other parity than the one before.
#[derive(Debug)]
struct Alternating;

struct Last(Vec<u32>);

impl Grammar for Alternating {
    fn begin(&self) -> Result<Box<dyn GrammarState>, GrammarError> {
        Ok(Box::new(Last(vec![0])))
    }
}

impl GrammarState for Last {
    fn allow(&mut self, allowed: &mut [u32]) -> Result<(), GrammarError> {
        let is_even = self.0[self.0.len() - 1].is_multiple_of(2);
        allowed.fill(if is_even { 0xaaaa_aaaa } else { 0x5555_5555 });
        Ok(())
    }

    fn push(&mut self, token: u32) -> Result<(), GrammarError> {
        self.0.push(token);
        Ok(())
    }

    fn pop(&mut self, tokens: usize) -> Result<(), GrammarError> {
        self.0.truncate(self.0.len() - tokens);
        Ok(())
    }
}

/// Questions of many kinds: prompt, options, and whether n-grams are looked up.
fn questions() -> Vec<(Vec<u32>, GenerateOptions, bool)> {
    let warm = Sampling {
        temperature: 0.7,
        top_p: 0.9,
        ..Sampling::default()
    };
    let fussy = Sampling {
        repetition_penalty: 1.3,
        top_k: 40,
        ..warm
    };
    let options = |max_tokens, choice| GenerateOptions {
        max_tokens,
        choice,
        ..Default::default()
    };
    let of = |rule, sampling, seed| TokenChoice {
        rule,
        ..TokenChoice::sampled(sampling, seed)
    };
    let repeated = |n: u32| (0..n).map(|i| i % 5 + 1).collect::<Vec<u32>>();
    vec![
        (
            vec![5, 17, 99, 3],
            options(30, TokenChoice::default()),
            false,
        ),
        (repeated(20), options(24, TokenChoice::default()), true),
        (
            repeated(70),
            options(18, of(Rule::Rejection, warm, 3)),
            true,
        ),
        (vec![7], options(12, of(Rule::Rejection, fussy, 4)), false),
        (repeated(9), options(20, of(Rule::Block, warm, 5)), true),
        (
            repeated(12),
            GenerateOptions {
                grammar: Some(Arc::new(Alternating)),
                ..options(15, of(Rule::Rejection, warm, 6))
            },
            true,
        ),
        (vec![1, 2, 3], options(1, TokenChoice::default()), false),
    ]
}

fn drafter(looks_up: bool) -> Box<dyn Drafter> {
    match looks_up {
        true => Box::new(NgramDrafter::new(NgramOptions::default()).unwrap()),
        false => Box::new(NoDrafter),
    }
}

fn alone(gpu: &Gpu, prompt: &[u32], options: &GenerateOptions, looks_up: bool) -> Vec<Token> {
    let decoder = decoder(gpu, crate::decoder::options());
    let mut session = Session::new(gpu, decoder, drafter(looks_up));
    let stream = session.generate(prompt, options.clone());
    stream.map(Result::unwrap).collect()
}

#[test]
fn every_answer_is_what_it_would_be_alone() {
    answers_are_as_alone(None);
}

#[test]
fn every_answer_in_pages_is_what_it_would_be_alone() {
    answers_are_as_alone(Some(16));
}

fn answers_are_as_alone(page: Option<u32>) {
    on_one_adapter(|gpu| {
        let gpu = &gpu.gpu;
        let questions = questions();
        let mut batch = paged_batch(gpu, 3, page);
        // More questions than places: the next one joins when an answer leaves, in the middle of the others.
        let mut waiting: Vec<usize> = (0..questions.len()).rev().collect();
        let mut running: Vec<(AnswerId, usize)> = Vec::new();
        let mut answers: Vec<Vec<Token>> = vec![Vec::new(); questions.len()];
        let mut together = 0;
        while !waiting.is_empty() || !batch.is_empty() {
            while batch.room() > 0
                && let Some(index) = waiting.pop()
            {
                let (prompt, options, looks_up) = &questions[index];
                let join = batch.join(prompt, options.clone(), drafter(*looks_up));
                running.push((pollster::block_on(join).unwrap(), index));
            }
            together = together.max(3 - batch.room());
            for part in pollster::block_on(batch.step()).unwrap() {
                let (_, index) = running.iter().find(|(id, _)| *id == part.answer).unwrap();
                answers[*index].extend(part.tokens);
                if let Some(finish) = part.finish {
                    assert_eq!(finish, Finish::MaxTokens);
                    assert_eq!(batch.tokens(part.answer), None);
                    assert_eq!(part.statistics.tokens, answers[*index].len());
                }
            }
        }
        assert_eq!(together, 3);
        for (index, (prompt, options, looks_up)) in questions.iter().enumerate() {
            let alone = alone(gpu, prompt, options, *looks_up);
            let ids = |tokens: &[Token]| tokens.iter().map(|token| token.id).collect::<Vec<_>>();
            assert_eq!(ids(&answers[index]), ids(&alone), "question {index}");
            assert_eq!(answers[index], alone, "question {index}");
        }
        let drafted = |token: &Token| token.origin == sunfleck::generate::Origin::Drafted;
        assert!(
            answers[1].iter().any(drafted),
            "no draft was kept: the test says too little"
        );
    });
}

#[test]
fn answers_leave_in_the_middle_and_full_batches_refuse() {
    on_one_adapter(|gpu| {
        let gpu = &gpu.gpu;
        let mut batch = batch(gpu, 2);
        let (prompt, options, _) = &questions()[0];
        let join = |batch: &mut Batch, drafter| {
            pollster::block_on(batch.join(prompt, options.clone(), drafter))
        };
        let first = join(&mut batch, Box::new(NoDrafter)).unwrap();
        let second = join(&mut batch, Box::new(NoDrafter)).unwrap();
        let refused = join(&mut batch, Box::new(NoDrafter)).unwrap_err();
        assert!(
            matches!(refused, GenerateError::BatchFull { sequences: 2 }),
            "{refused}"
        );
        for _ in 0..4 {
            pollster::block_on(batch.step()).unwrap();
        }
        assert_eq!(batch.tokens(first), batch.tokens(second));
        assert_eq!(batch.tokens(first).unwrap().len(), prompt.len() + 5);
        assert!(batch.leave(first) && !batch.leave(first));
        assert_eq!((batch.room(), batch.tokens(first)), (1, None));
        let parts = pollster::block_on(batch.step()).unwrap();
        assert!(parts.len() == 1 && parts[0].answer == second);
        // A tree where a chain was asked for.
        let wide = join(&mut batch, Box::new(Always)).unwrap();
        // Another that joined with it, for a single token, gets that token although the step fails.
        assert!(batch.leave(second));
        let one = GenerateOptions {
            max_tokens: 1,
            ..options.clone()
        };
        let short = pollster::block_on(batch.join(prompt, one, Box::new(NoDrafter))).unwrap();
        let refused = pollster::block_on(batch.step());
        assert!(matches!(refused, Err(GenerateError::BatchDraft { .. })));
        let refused = pollster::block_on(batch.step());
        assert!(matches!(refused, Err(GenerateError::BatchDraft { .. })));
        assert!(batch.leave(wide) && !batch.is_empty());
        let parts = pollster::block_on(batch.step()).unwrap();
        assert!(parts.len() == 1 && parts[0].answer == short, "{parts:?}");
        assert_eq!(parts[0].tokens.len(), 1);
        assert_eq!(parts[0].finish, Some(Finish::MaxTokens));
        assert!(batch.is_empty() && !batch.leave(short));
        // The room of a context ends an answer, not the others.
        let other = join(&mut batch, Box::new(NoDrafter)).unwrap();
        let long = GenerateOptions {
            max_tokens: 1000,
            ..options.clone()
        };
        let full: Vec<u32> = (0..155).map(|i| i % 90).collect();
        let full = pollster::block_on(batch.join(&full, long, Box::new(NoDrafter))).unwrap();
        let mut finish = None;
        for _ in 0..8 {
            for part in pollster::block_on(batch.step()).unwrap() {
                if part.answer == full {
                    finish = finish.or(part.finish);
                }
            }
        }
        assert_eq!(finish, Some(Finish::ContextFull));
        assert!(batch.tokens(other).is_some());
    });
}

#[test]
fn a_decoder_for_one_sequence_is_no_batch() {
    on_one_adapter(|gpu| {
        let gpu = &gpu.gpu;
        let refused = pollster::block_on(Batch::new(gpu, decoder(gpu, options())));
        assert!(matches!(refused, Err(GenerateError::NotABatch)));
    });
}
