//! Tiny random models on the GPU against the f64 decoder.

use std::io::Cursor;

use sunfleck::{
    attention::Element,
    draft::{DraftContext, DraftError, Drafted, Drafter, NoDrafter},
    generate::{GenerateError, GenerateOptions, Session},
    gpu::Gpu,
    model::{Decoder, DecoderOptions, Gguf},
    reference::{
        blocks::BlockFormat,
        compare::{Tolerance, compare},
        decoder as twin, reduce,
    },
    tree::{DraftTree, DrawKind, NONE},
};

use crate::{
    adapters::on_every_adapter,
    gguf_writer::{Storage, tiny_llama},
    random::Random,
};

pub fn config() -> twin::DecoderConfig {
    twin::DecoderConfig {
        layers: 2,
        width: 64,
        heads: 6,
        kv_heads: 2,
        head_dim: 16,
        ff: 96,
        vocab: 130,
        rope_base: 10_000.0,
        rope_dim: 12,
        rope_divisors: None,
        eps: 1e-5,
        family: Default::default(),
    }
}

/// Rows of super-blocks are multiples of 256 elements.
fn config_for(matrices: BlockFormat) -> twin::DecoderConfig {
    match matrices.block_elements() {
        256 => twin::DecoderConfig {
            layers: 1,
            width: 256,
            heads: 8,
            kv_heads: 2,
            head_dim: 32,
            ff: 256,
            ..config()
        },
        _ => config(),
    }
}

pub fn open(
    gpu: &Gpu,
    bytes: &[u8],
    options: DecoderOptions,
    drafter: Box<dyn Drafter>,
) -> Session {
    let mut reader = Cursor::new(bytes);
    let gguf = Gguf::read(&mut reader).unwrap();
    let mut quiet = |_, _| ();
    let load = Decoder::load(gpu, &gguf, &mut reader, options, &mut quiet);
    Session::new(gpu, pollster::block_on(load).unwrap(), drafter)
}

pub fn options() -> DecoderOptions {
    DecoderOptions {
        context: 160,
        prompt_rows: 64,
        max_draft: 7,
        cache: Element::F32,
        page: None,
        sequences: 1,
        lazy_kernels: false,
    }
}

pub fn prompt(random: &mut Random, tokens: usize) -> Vec<u32> {
    (0..tokens).map(|_| random.below(130)).collect()
}

#[test]
fn logits_after_a_prompt_equal_the_twin_for_every_weight_type() {
    on_every_adapter(|gpu| {
        if !gpu.runs_models() {
            return;
        }
        let cases = [
            (BlockFormat::F32, BlockFormat::F32, true),
            (BlockFormat::F16, BlockFormat::F32, false),
            (BlockFormat::Q8_0, BlockFormat::Q8_0, true),
            (BlockFormat::Q4_0, BlockFormat::Q8_0, false),
            (BlockFormat::Q4_1, BlockFormat::Q4_0, true),
            (BlockFormat::Bf16, BlockFormat::F16, false),
            (BlockFormat::Q5_0, BlockFormat::Q5_1, true),
            (BlockFormat::Q5_1, BlockFormat::Q8_0, false),
            // As the files called Q4_K_M and Q5_K_M mix them.
            (BlockFormat::Q4K, BlockFormat::Q6K, false),
            (BlockFormat::Q5K, BlockFormat::Q6K, true),
            (BlockFormat::Q6K, BlockFormat::Q4K, true),
        ];
        for (matrices, odd_ones, tied) in cases {
            let mut random = Random(8);
            let storage = Storage {
                matrices,
                odd_ones,
                tied,
            };
            let config = config_for(matrices);
            let (file, weights) = tiny_llama(&config, storage, |n| random.normals(n));
            let mut twin = twin::Decoder::new(config.clone(), weights).unwrap();
            let mut session = open(&gpu.gpu, &file.bytes(), options(), Box::new(NoDrafter));
            // More than one chunk of 64 rows, and a chunk that is not full.
            let prompt = prompt(&mut random, 75);
            let expected = twin.forward(&prompt).unwrap();
            let expected = &expected[(prompt.len() - 1) * config.vocab..];
            let mut quiet = |_, _| ();
            let read = session.read_prompt(&prompt, &mut quiet);
            let first = pollster::block_on(read).unwrap();
            let logits: Vec<f32> = gpu.read(session.decoder().logits());
            let what = format!("{} {matrices:?} {odd_ones:?}", gpu.name);
            compare(&what, &logits[..config.vocab], expected, Tolerance::F32).unwrap();
            assert_eq!(Some(first as usize), reduce::argmax(expected), "{what}");
        }
    });
}

/// Drafts branching trees: right tokens from an oracle among wrong ones.
struct Oracle {
    answer: Vec<u32>,
    prompt: usize,
    random: Random,
    chains: bool,
}

impl Drafter for Oracle {
    fn name(&self) -> &str {
        "oracle"
    }

    fn draft(&mut self, context: &DraftContext<'_>) -> Result<Drafted, DraftError> {
        let root = context.root()?;
        let done = context.committed.len() - self.prompt;
        let right = &self.answer[done.min(self.answer.len())..];
        let depth = context.max_depth.min(right.len()).min(3);
        if self.chains {
            let mut tokens = right[..depth].to_vec();
            if let (Some(last), 0) = (tokens.last_mut(), self.random.below(3)) {
                *last = (*last + 1) % 130;
            }
            return Ok(Drafted::OnHost(DraftTree::chain(root, &tokens)?));
        }
        // At each depth a wrong sibling comes before the right one, so that a commit must move.
        let (mut tokens, mut parents) = (vec![root], vec![NONE]);
        let mut parent = 0;
        for token in &right[..depth] {
            tokens.extend([(token + 1) % 130, *token]);
            parents.extend([parent; 2]);
            parent = tokens.len() as u32 - 1;
        }
        Ok(Drafted::OnHost(DraftTree::from_parents(
            tokens,
            parents,
            DrawKind::TopK,
        )?))
    }
}

#[test]
fn chains_and_trees_give_the_tokens_of_plain_decoding() {
    on_every_adapter(|gpu| {
        if !gpu.runs_models() {
            return;
        }
        for (cache, page) in [
            (Element::F32, None),
            (Element::F16, Some(16)),
            (Element::Q8, Some(16)),
            (Element::Q4, None),
        ] {
            let mut random = Random(12);
            let storage = Storage {
                matrices: BlockFormat::Q4_1,
                odd_ones: BlockFormat::Q8_0,
                tied: true,
            };
            let (file, _) = tiny_llama(&config(), storage, |n| random.normals(n));
            let prompt = prompt(&mut random, 9);
            let options = DecoderOptions {
                cache,
                page,
                ..options()
            };
            let end = GenerateOptions {
                max_tokens: 40,
                end_tokens: Vec::new(),
                ..Default::default()
            };
            let mut session = open(&gpu.gpu, &file.bytes(), options, Box::new(NoDrafter));
            let plain: Vec<u32> = session
                .generate(&prompt, end.clone())
                .map(|token| token.unwrap().id)
                .collect();
            assert_eq!(plain.len(), 40);
            for chains in [true, false] {
                session.reset();
                session.set_drafter(Box::new(Oracle {
                    answer: plain.clone(),
                    prompt: prompt.len(),
                    random: Random(5),
                    chains,
                }));
                let mut stream = session.generate(&prompt, end.clone());
                let tokens: Vec<u32> = stream.by_ref().map(|token| token.unwrap().id).collect();
                assert_eq!(tokens, plain, "{} chains {chains} {cache:?}", gpu.name);
                let statistics = stream.statistics();
                assert!(statistics.accepted > 15, "{} kept {statistics:?}", gpu.name);
                assert!(statistics.steps < 30, "{} {statistics:?}", gpu.name);
            }
        }
    });
}

#[test]
fn a_session_refuses_what_it_cannot_do_and_goes_on() {
    on_every_adapter(|gpu| {
        if !gpu.runs_models() {
            return;
        }
        let mut random = Random(3);
        let storage = Storage {
            matrices: BlockFormat::F32,
            odd_ones: BlockFormat::F32,
            tied: true,
        };
        let (file, _) = tiny_llama(&config(), storage, |n| random.normals(n));
        let mut session = open(&gpu.gpu, &file.bytes(), options(), Box::new(NoDrafter));
        let step = pollster::block_on(session.step(1));
        assert!(matches!(step, Err(GenerateError::NoPrompt)));
        let mut read =
            |prompt: &[u32]| pollster::block_on(session.read_prompt(prompt, &mut |_, _| ()));
        assert!(matches!(read(&[]), Err(GenerateError::EmptyPrompt)));
        let unknown = read(&[1, 130]);
        assert!(matches!(
            unknown,
            Err(GenerateError::UnknownToken {
                token: 130,
                position: 1,
                ..
            })
        ));
        let long = read(&[1; 161]);
        assert!(matches!(
            long,
            Err(GenerateError::PromptTooLong { prompt: 161, .. })
        ));
        // After all that the session still answers, until the context is full.
        let tokens = session.generate(
            &[1; 150],
            GenerateOptions {
                max_tokens: 1000,
                end_tokens: Vec::new(),
                ..Default::default()
            },
        );
        let tokens: Vec<_> = tokens.map(Result::unwrap).collect();
        assert_eq!(
            tokens.len(),
            11,
            "one after the prompt and one for each free slot"
        );
    });
}
