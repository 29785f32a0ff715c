//! Every drafter on a tiny random model against its f64 twin: the drafts themselves, not only the text.

use std::{io::Cursor, sync::Arc};

use sunfleck::{
    draft::{
        DraftContext, DraftCost, DraftError, DraftLimits, Drafted, Drafter, ExitDrafter,
        ExitOptions, MedusaDrafter, MedusaOptions, ModelDrafter, MtpDrafter, MtpOptions, NoDrafter,
        Outcome, Recording,
    },
    generate::{Grammar, GrammarError, GrammarState, Session},
    gpu::Gpu,
    model::{Decoder, Gguf},
    reference::{
        blocks::BlockFormat,
        decoder::{Decoder as Twin, DecoderWeights},
        draft::{Growth, Mtp, ResidualWeights, medusa_logits},
        reduce::argmax,
        tree::top_k,
    },
    tree::{DraftTree, DrawKind},
};

use super::tensors::Tensors;
use crate::{
    adapters::on_every_adapter,
    decoder::{config, open, options, prompt},
    gguf_writer::{Storage, tiny_llama},
    mtp::tiny_module,
    random::Random,
    sessions::on_one_adapter,
};

/// Drafts the text itself for three steps, so that several rows of a pass are kept, then with the drafter.
pub struct Alternating {
    pub drafter: Box<dyn Drafter>,
    pub text: Vec<u32>,
    pub step: usize,
}

impl Drafter for Alternating {
    fn name(&self) -> &str {
        "alternating"
    }

    fn draft(&mut self, context: &DraftContext<'_>) -> Result<Drafted, DraftError> {
        self.step += 1;
        if self.step.is_multiple_of(4) {
            return self.drafter.draft(context);
        }
        let (root, known) = (context.root()?, context.committed.len());
        // One token right in the first of the steps, two in the second, three and a wrong one in the third.
        let mut tokens = self.text[known..known + self.step % 4].to_vec();
        if self.step % 4 == 3 {
            tokens.push((self.text[known + 3] + 1) % 130);
        }
        Ok(Drafted::OnHost(DraftTree::chain(root, &tokens)?))
    }

    fn record(&mut self, recording: &mut Recording<'_>) -> Result<(), DraftError> {
        self.drafter.record(recording)
    }

    fn observe(&mut self, outcome: &Outcome<'_>) {
        if self.step.is_multiple_of(4) {
            self.drafter.observe(outcome);
        }
    }
}

struct Tiny {
    file: Vec<u8>,
    weights: DecoderWeights,
}

impl Tiny {
    fn new(random: &mut Random, layers: usize) -> Self {
        let storage = Storage {
            matrices: BlockFormat::F32,
            odd_ones: BlockFormat::Q8_0,
            tied: false,
        };
        let config = sunfleck::reference::decoder::DecoderConfig { layers, ..config() };
        let (file, weights) = tiny_llama(&config, storage, |n| random.normals(n));
        Tiny {
            file: file.bytes(),
            weights,
        }
    }

    /// Features of `tokens` after the first `layers` layers, `[token, width]`.
    fn features(&self, tokens: &[u32], layers: usize) -> Vec<f64> {
        let config = sunfleck::reference::decoder::DecoderConfig { layers, ..config() };
        let mut weights = self.weights.clone();
        weights.layers.truncate(layers);
        Twin::new(config, weights)
            .unwrap()
            .features(tokens)
            .unwrap()
    }

    fn head(&self) -> &[f32] {
        let weights = &self.weights;
        weights.output.as_ref().unwrap_or(&weights.embedding)
    }
}

fn last(features: &[f64]) -> &[f64] {
    &features[features.len() - config().width..]
}

/// Loads a drafter for the decoder.
type Load<'a> = dyn Fn(&Gpu, &Decoder, &Gguf) -> Box<dyn Drafter> + 'a;

/// Runs the drafter every fourth step and compares what it wrote on the GPU with `expected` of the committed
/// tokens; the text is plain decoding's all the while.
fn compare(
    tiny: &Tiny,
    random: &mut Random,
    load: &Load<'_>,
    expected: &dyn Fn(&[u32]) -> DraftTree,
) {
    let options = sunfleck::model::DecoderOptions {
        // Two full chunks of a prompt and one of 6 rows.
        prompt_rows: 16,
        max_draft: 12,
        ..options()
    };
    let prompt = prompt(random, 38);
    on_every_adapter(|gpu| {
        if !gpu.runs_models() {
            return;
        }
        let mut session = open(&gpu.gpu, &tiny.file, options, Box::new(NoDrafter));
        let mut quiet = |_, _| ();
        pollster::block_on(session.read_prompt(&prompt, &mut quiet)).unwrap();
        while session.tokens().len() < 130 {
            pollster::block_on(session.step(1)).unwrap();
        }
        let text = session.tokens().to_vec();
        let gguf = Gguf::read(&mut Cursor::new(&tiny.file)).unwrap();
        let drafter = load(&gpu.gpu, session.decoder(), &gguf);
        let drafter = Alternating {
            drafter,
            text: text.clone(),
            step: 0,
        };
        session.set_drafter(Box::new(drafter));
        let run = |session: &mut Session, until: usize| {
            let mut compared = 0;
            for step in 1.. {
                let known = session.tokens().len();
                if known > until {
                    break;
                }
                let gave = pollster::block_on(session.step(usize::MAX)).unwrap();
                if step % 4 == 0 {
                    let blob: Vec<u32> = gpu.read(session.decoder().tree());
                    let stride = session.decoder().max_nodes() as usize;
                    let drafted = DraftTree::from_blob(&blob, stride, DrawKind::TopK).unwrap();
                    let twin = expected(&text[..known]);
                    let what = format!("{} step {step}", gpu.name);
                    assert_eq!(drafted.tokens(), twin.tokens(), "{what}");
                    assert_eq!(drafted.parents(), twin.parents(), "{what}");
                    assert_eq!(gave.drafted, twin.drafted(), "{what}");
                    compared += 1;
                }
                assert_eq!(session.tokens(), &text[..session.tokens().len()]);
            }
            compared
        };
        session.reset();
        pollster::block_on(session.read_prompt(&prompt, &mut quiet)).unwrap();
        assert!(run(&mut session, 96) >= 5);
    });
}

#[test]
fn medusa_trees_equal_those_of_the_twin() {
    let mut random = Random(57);
    let tiny = Tiny::new(&mut random, 2);
    let width = config().width;
    let mut tensors = Tensors::new(&mut random);
    let heads: Vec<ResidualWeights> = (0..3)
        .map(|head| ResidualWeights {
            weight: tensors.add(
                &format!("medusa.{head}.linear.weight"),
                &[width, width],
                1.5,
            ),
            bias: tensors.add(&format!("medusa.{head}.linear.bias"), &[width], 1.0),
        })
        .collect();
    let file = tensors.bytes();
    // 9 nodes below the root.
    let rates = vec![vec![0.5, 0.7, 0.8], vec![0.4, 0.6, 0.7], vec![0.5, 0.6]];
    let paths: Vec<Vec<usize>> = [
        &[0][..],
        &[0, 0],
        &[1],
        &[0, 1],
        &[0, 0, 0],
        &[2],
        &[1, 0],
        &[0, 1, 0],
        &[0, 2],
    ]
    .map(<[usize]>::to_vec)
    .to_vec();
    let vocabulary: Vec<u32> = (0..130).filter(|token| token % 4 != 1).collect();
    let options = MedusaOptions {
        nodes: 10,
        vocabulary: vocabulary.clone(),
        hit_rates: rates,
    };
    let load = |gpu: &Gpu, decoder: &Decoder, gguf: &Gguf| -> Box<dyn Drafter> {
        let reader = &mut Cursor::new(&tiny.file);
        let loaded = MedusaDrafter::load(gpu, decoder, gguf, reader, &file, &options);
        let drafter = pollster::block_on(loaded).unwrap();
        assert_eq!(
            drafter.limits(),
            DraftLimits::new(10, 3, true, DraftCost::Once)
        );
        Box::new(drafter)
    };
    compare(&tiny, &mut Random(1), &load, &|tokens| {
        let features = tiny.features(&tokens[..tokens.len() - 1], 2);
        let (feature, norm) = (last(&features), &tiny.weights.output_norm);
        let logits = medusa_logits(feature, norm, config().eps, &heads, tiny.head()).unwrap();
        let candidates: Vec<Vec<u32>> = (logits.iter())
            .map(|row| {
                let row: Vec<f32> = (0u32..)
                    .zip(row)
                    .map(|(token, &logit)| match vocabulary.contains(&token) {
                        true => logit as f32,
                        false => f32::NEG_INFINITY,
                    })
                    .collect();
                top_k(&row, 3).iter().map(|best| best.token).collect()
            })
            .collect();
        DraftTree::from_paths(tokens[tokens.len() - 1], &paths, &candidates).unwrap()
    });
}

#[test]
fn mtp_trees_equal_those_of_the_twin() {
    let mut random = Random(31);
    let tiny = Tiny::new(&mut random, 2);
    let (file, module) = tiny_module(&config(), &tiny.weights, &mut random);
    let vocabulary: Vec<u32> = (0..130).filter(|token| token % 3 != 1).collect();
    let options = MtpOptions {
        nodes: 12,
        levels: 4,
        width: 3,
        vocabulary: vocabulary.clone(),
        ..Default::default()
    };
    let load = |gpu: &Gpu, decoder: &Decoder, gguf: &Gguf| -> Box<dyn Drafter> {
        let reader = &mut Cursor::new(&tiny.file);
        let loaded = MtpDrafter::load(gpu, decoder, gguf, reader, &file, &options);
        Box::new(pollster::block_on(loaded).unwrap())
    };
    compare(&tiny, &mut Random(2), &load, &|tokens| {
        let features = tiny.features(&tokens[..tokens.len() - 1], 2);
        let growth = Growth {
            depth: 4,
            width: 3,
            children: 8,
            max_nodes: 12,
        };
        let mut twin = Mtp::new(&config(), module.clone()).unwrap();
        twin.draft_tree(&features, &tokens[1..], &growth, &vocabulary)
            .unwrap()
    });
}

#[test]
fn early_exits_draft_what_the_twin_does_and_the_step_goes_on_from_their_layer() {
    let mut random = Random(83);
    let tiny = Tiny::new(&mut random, 3);
    let width = config().width;
    let mut tensors = Tensors::new(&mut random);
    let norm = tensors.add("exit.2.norm.weight", &[width], 1.0);
    let block = [ResidualWeights {
        weight: tensors.add("exit.2.linear.weight", &[width, width], 1.0),
        bias: tensors.add("exit.2.linear.bias", &[width], 1.0),
    }];
    let file = tensors.bytes();
    let options = ExitOptions {
        layers: 2,
        tokens: 5,
        ..Default::default()
    };
    let load = |gpu: &Gpu, decoder: &Decoder, gguf: &Gguf| -> Box<dyn Drafter> {
        let reader = &mut Cursor::new(&tiny.file);
        let loaded = ExitDrafter::load(gpu, decoder, gguf, reader, &file, &options);
        Box::new(pollster::block_on(loaded).unwrap())
    };
    compare(&tiny, &mut Random(3), &load, &|tokens| {
        let mut text = tokens.to_vec();
        for _ in 0..5 {
            let features = tiny.features(&text, 2);
            let (feature, eps) = (last(&features), config().eps);
            let logits = medusa_logits(feature, &norm, eps, &block, tiny.head()).unwrap();
            text.push(argmax(&logits[0]).unwrap() as u32);
        }
        let (known, drafted) = text.split_at(tokens.len());
        DraftTree::chain(known[known.len() - 1], drafted).unwrap()
    });
}

/// Allows every token.
#[derive(Debug)]
struct Free;

impl Grammar for Free {
    fn begin(&self) -> Result<Box<dyn GrammarState>, GrammarError> {
        Ok(Box::new(Self))
    }
}

impl GrammarState for Free {
    fn allow(&mut self, allowed: &mut [u32]) -> Result<(), GrammarError> {
        allowed.fill(u32::MAX);
        Ok(())
    }

    fn push(&mut self, _: u32) -> Result<(), GrammarError> {
        Ok(())
    }

    fn pop(&mut self, _: usize) -> Result<(), GrammarError> {
        Ok(())
    }
}

#[test]
fn drafts_that_a_grammar_looks_at_first_are_the_same_in_pages() {
    let mut random = Random(83);
    let tiny = Tiny::new(&mut random, 3);
    let width = config().width;
    let mut tensors = Tensors::new(&mut random);
    tensors.add("exit.2.norm.weight", &[width], 1.0);
    tensors.add("exit.2.linear.weight", &[width, width], 1.0);
    tensors.add("exit.2.linear.bias", &[width], 1.0);
    let weights = tensors.bytes();
    let exit = ExitOptions {
        layers: 2,
        tokens: 5,
        ..Default::default()
    };
    // Drafts begin on one page and end on the next.
    let prompt = prompt(&mut random, 14);
    on_one_adapter(|gpu| {
        let drafts = |page| -> Vec<Vec<u32>> {
            let options = sunfleck::model::DecoderOptions { page, ..options() };
            let mut session = open(&gpu.gpu, &tiny.file, options, Box::new(NoDrafter));
            let reader = &mut Cursor::new(&tiny.file);
            let gguf = Gguf::read(&mut Cursor::new(&tiny.file)).unwrap();
            let decoder = session.decoder();
            let drafter = ExitDrafter::load(&gpu.gpu, decoder, &gguf, reader, &weights, &exit);
            let drafter = pollster::block_on(drafter).unwrap();
            session.set_drafter(Box::new(drafter));
            pollster::block_on(session.set_grammar(Some(Arc::new(Free)))).unwrap();
            let mut quiet = |_, _| ();
            pollster::block_on(session.read_prompt(&prompt, &mut quiet)).unwrap();
            let steps = (0..20).map(|_| pollster::block_on(session.step(usize::MAX)).unwrap());
            steps.map(|step| step.draft.tokens().to_vec()).collect()
        };
        let contiguous = drafts(None);
        assert!(contiguous.iter().all(|draft| draft.len() == 6));
        assert_eq!(drafts(Some(16)), contiguous);
    });
}

#[test]
fn a_draft_model_drafts_what_it_would_write() {
    let mut random = Random(19);
    let tiny = Tiny::new(&mut random, 2);
    let small = Tiny::new(&mut random, 1);
    let load = |gpu: &Gpu, decoder: &Decoder, _: &Gguf| -> Box<dyn Drafter> {
        let draft_options = sunfleck::model::DecoderOptions {
            prompt_rows: 1, // chunks of 64
            max_draft: 0,
            ..options()
        };
        let mut reader = Cursor::new(&small.file);
        let gguf = Gguf::read(&mut reader).unwrap();
        let mut quiet = |_, _| ();
        let draft = Decoder::load(gpu, &gguf, &mut reader, draft_options, &mut quiet);
        let draft = pollster::block_on(draft).unwrap();
        Box::new(ModelDrafter::new(gpu, decoder, draft, 4).unwrap())
    };
    compare(&tiny, &mut Random(4), &load, &|tokens| {
        let config = sunfleck::reference::decoder::DecoderConfig {
            layers: 1,
            ..config()
        };
        let mut twin = Twin::new(config, small.weights.clone()).unwrap();
        let mut text = tokens.to_vec();
        while text.len() < tokens.len() + 4 {
            let logits = twin.forward(&text[twin.len()..]).unwrap();
            text.push(argmax(&logits[logits.len() - 130..]).unwrap() as u32);
        }
        let (known, drafted) = text.split_at(tokens.len());
        DraftTree::chain(known[known.len() - 1], drafted).unwrap()
    });
}
