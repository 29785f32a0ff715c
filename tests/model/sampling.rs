//! Sessions that sample: the law of their texts, seeds, log-probabilities.

use std::collections::HashMap;

use sunfleck::{
    draft::{DraftContext, DraftError, Drafted, Drafter, NgramDrafter, NgramOptions, NoDrafter},
    generate::{GenerateError, GenerateOptions, Session, TokenChoice},
    reference::{blocks::BlockFormat, decoder as twin},
    tree::DraftTree,
    verify::{LossyTypical, Rule, Sampling},
};

use crate::{
    adapters::{TestGpu, on_every_adapter},
    decoder::{config, open, options},
    gguf_writer::{Storage, tiny_llama},
    random::Random,
};

const VOCABULARY: usize = 4;
pub const PROMPT: [u32; 3] = [1, 3, 2];
pub const WARM: Sampling = Sampling {
    temperature: 1.5,
    top_k: 0,
    top_p: 1.0,
    min_p: 0.0,
    repetition_penalty: 1.0,
    presence_penalty: 0.0,
};

/// The shape of a model of four tokens.
pub fn small() -> twin::DecoderConfig {
    twin::DecoderConfig {
        vocab: VOCABULARY,
        ..config()
    }
}

/// A model of four tokens: its file, and its weights.
pub fn file(random: &mut Random) -> (Vec<u8>, twin::DecoderWeights) {
    let storage = Storage {
        matrices: BlockFormat::F32,
        odd_ones: BlockFormat::F32,
        tied: true,
    };
    let (file, weights) = tiny_llama(&small(), storage, |n| random.normals(n));
    (file.bytes(), weights)
}

/// A model of four tokens, on the GPU and in f64.
pub fn model(gpu: &TestGpu) -> (Session, twin::Decoder) {
    let (bytes, weights) = file(&mut Random(21));
    let twin = twin::Decoder::new(small(), weights).unwrap();
    let session = open(&gpu.gpu, &bytes, options(), Box::new(NoDrafter));
    (session, twin)
}

/// Drafts the same tree at every step, chosen without chance: two children, the first with two of its own.
pub struct Always;

impl Drafter for Always {
    fn name(&self) -> &str {
        "always"
    }

    fn draft(&mut self, context: &DraftContext<'_>) -> Result<Drafted, DraftError> {
        let paths: &[&[u32]] = match context.max_depth {
            0 => &[],
            1 => &[&[0], &[2]],
            _ => &[&[0, 1], &[0, 3], &[2]],
        };
        let tree = DraftTree::merge(context.root()?, paths, context.max_nodes)?;
        Ok(Drafted::OnHost(tree))
    }
}

fn answer(session: &mut Session, tokens: usize, choice: TokenChoice) -> Vec<u32> {
    session.reset();
    let options = GenerateOptions {
        max_tokens: tokens,
        choice,
        ..Default::default()
    };
    let stream = session.generate(&PROMPT, options);
    stream.map(|token| token.unwrap().id).collect()
}

/// Probability of every text of three tokens, from the twin; `process` changes the weights of the tokens after a
/// text.
pub fn law(
    twin: &mut twin::Decoder,
    process: impl Fn(&[u32], &mut [f64]),
) -> HashMap<Vec<u32>, f64> {
    let mut texts = HashMap::from([(Vec::new(), 1.0)]);
    for _ in 0..3 {
        let mut longer = HashMap::new();
        for (text, p) in texts {
            let known = [&PROMPT[..], &text[..]].concat();
            twin.truncate(0);
            let logits = twin.forward(&known).unwrap();
            let logits = &logits[(known.len() - 1) * VOCABULARY..];
            let weights = logits
                .iter()
                .map(|x| (x / f64::from(WARM.temperature)).exp());
            let mut weights: Vec<f64> = weights.collect();
            process(&text, &mut weights);
            let sum: f64 = weights.iter().sum();
            for (token, weight) in weights.iter().enumerate() {
                let text = [&text[..], &[token as u32]].concat();
                longer.insert(text, p * weight / sum);
            }
        }
        texts = longer;
    }
    texts
}

/// Chi-squared of `texts` against `law` over the value that it passes once in 1e9 times; texts that are
/// expected less than five times count as one.
pub fn misfit(texts: &[Vec<u32>], law: &HashMap<Vec<u32>, f64>) -> f64 {
    let mut counts: HashMap<&Vec<u32>, f64> = HashMap::new();
    for text in texts {
        *counts.entry(text).or_default() += 1.0;
    }
    let (mut rare, mut statistic, mut cells) = ((0.0, 0.0), 0.0, 0);
    let mut add = |expected: f64, seen: f64| {
        statistic += (seen - expected).powi(2) / expected;
        cells += 1;
    };
    for (text, p) in law {
        let (expected, seen) = (
            p * texts.len() as f64,
            counts.get(text).copied().unwrap_or(0.0),
        );
        match expected < 5.0 {
            true => rare = (rare.0 + expected, rare.1 + seen),
            false => add(expected, seen),
        }
    }
    if rare.0 > 0.0 {
        add(rare.0, rare.1);
    }
    // Wilson and Hilferty 1931: six standard deviations.
    let freedom = f64::from(cells - 1);
    let spread = 2.0 / (9.0 * freedom);
    statistic / (freedom * (1.0 - spread + 6.0 * spread.sqrt()).powi(3))
}

#[test]
fn sampled_text_has_the_models_law_with_and_without_drafts() {
    on_every_adapter(|gpu| {
        if gpu.is_slow() || !gpu.name.contains("all features") {
            return;
        }
        let (mut session, mut twin) = model(gpu);
        let law = law(&mut twin, |_, _| ());
        assert!((law.values().sum::<f64>() - 1.0).abs() < 1e-9);
        let mut misfit_of = |drafter: Box<dyn Drafter>, rule: Rule| {
            session.set_drafter(drafter);
            let choice = |seed| TokenChoice {
                rule,
                ..TokenChoice::sampled(WARM, seed)
            };
            let texts: Vec<Vec<u32>> = (0..1000)
                .map(|seed| answer(&mut session, 3, choice(seed)))
                .collect();
            misfit(&texts, &law)
        };
        let plain = misfit_of(Box::new(NoDrafter), Rule::Rejection);
        assert!(plain < 1.0, "{}: {plain} without a drafter", gpu.name);
        let drafted = misfit_of(Box::new(Always), Rule::Rejection);
        assert!(drafted < 1.0, "{}: {drafted} with drafts", gpu.name);
        // The test sees a wrong law: a lossy rule keeps drafts too often.
        let lossy = Rule::LossyTypical(LossyTypical {
            epsilon: 0.3,
            delta: 0.09,
        });
        let lossy = misfit_of(Box::new(Always), lossy);
        assert!(lossy > 1.0, "{}: {lossy} with a lossy rule", gpu.name);
    });
}

/// Drafts the same chain at every step, chosen without chance.
struct Straight;

impl Drafter for Straight {
    fn name(&self) -> &str {
        "straight"
    }

    fn draft(&mut self, context: &DraftContext<'_>) -> Result<Drafted, DraftError> {
        let chain = &[0, 2][..context.max_depth.min(2)];
        Ok(Drafted::OnHost(DraftTree::chain(context.root()?, chain)?))
    }
}

#[test]
fn block_verification_after_top_p_has_the_law_of_what_is_left() {
    on_every_adapter(|gpu| {
        if gpu.is_slow() || !gpu.name.contains("all features") {
            return;
        }
        let (mut session, mut twin) = model(gpu);
        // The fewest likeliest tokens that sum to 0.8.
        let nucleus = |_: &[u32], weights: &mut [f64]| {
            let sum: f64 = weights.iter().sum();
            let mut order: Vec<usize> = (0..weights.len()).collect();
            order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
            let mut before = 0.0;
            for token in order {
                let own = weights[token] / sum;
                if before >= 0.8 {
                    weights[token] = 0.0;
                }
                before += own;
            }
        };
        let cut = law(&mut twin, nucleus);
        let whole = law(&mut twin, |_, _| ());
        assert!(cut.values().any(|p| *p == 0.0), "nothing was cut");
        session.set_drafter(Box::new(Straight));
        let sampling = Sampling { top_p: 0.8, ..WARM };
        let choice = |seed| TokenChoice {
            rule: Rule::Block,
            ..TokenChoice::sampled(sampling, seed)
        };
        let texts: Vec<Vec<u32>> = (0..1000)
            .map(|seed| answer(&mut session, 3, choice(seed)))
            .collect();
        assert!(texts.iter().all(|text| cut[text] > 0.0), "{}", gpu.name);
        let ratio = misfit(&texts, &cut);
        assert!(ratio < 1.0, "{}: {ratio}", gpu.name);
        // The test sees a wrong law.
        assert!(misfit(&texts, &whole) > 1.0, "{}", gpu.name);
    });
}

#[test]
fn a_seed_gives_one_text() {
    on_every_adapter(|gpu| {
        if !gpu.runs_models() || gpu.compiles_slowly() {
            return;
        }
        let (mut session, _) = model(gpu);
        let choice = |seed| TokenChoice::sampled(WARM, seed);
        let first = answer(&mut session, 24, choice(5));
        assert_eq!(answer(&mut session, 24, choice(5)), first, "{}", gpu.name);
        assert_ne!(answer(&mut session, 24, choice(6)), first, "{}", gpu.name);
        // A prompt in two parts is the same prompt, and penalties count the same tokens.
        let sampling = Sampling {
            repetition_penalty: 1.3,
            presence_penalty: 0.2,
            ..WARM
        };
        let choice = TokenChoice::sampled(sampling, 9);
        let whole = answer(&mut session, 12, choice);
        let known = [&PROMPT[..], &whole[..6]].concat();
        session.reset();
        let options = GenerateOptions {
            max_tokens: 6,
            choice,
            ..Default::default()
        };
        let rest = session.generate(&known, options);
        let rest: Vec<u32> = rest.map(|token| token.unwrap().id).collect();
        assert_eq!(rest, whole[6..], "{}", gpu.name);
    });
}

#[test]
fn log_probabilities_are_the_twins() {
    on_every_adapter(|gpu| {
        if !gpu.runs_models() || gpu.compiles_slowly() {
            return;
        }
        let (mut session, mut twin) = model(gpu);
        session.set_drafter(Box::new(Always));
        for rule in [Rule::Greedy, Rule::Rejection] {
            session.reset();
            let choice = TokenChoice {
                rule,
                log_probabilities: Some(3),
                ..TokenChoice::sampled(WARM, 3)
            };
            let options = GenerateOptions {
                max_tokens: 8,
                choice,
                ..Default::default()
            };
            let tokens: Vec<_> = session
                .generate(&PROMPT, options)
                .map(Result::unwrap)
                .collect();
            let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
            let known = [&PROMPT[..], &ids[..]].concat();
            twin.truncate(0);
            let logits = twin.forward(&known).unwrap();
            for (i, token) in tokens.iter().enumerate() {
                let row = &logits[(PROMPT.len() - 1 + i) * VOCABULARY..][..VOCABULARY];
                let log_p = |temperature: f64| {
                    let sum: f64 = row.iter().map(|x| (x / temperature).exp()).sum();
                    row[token.id as usize] / temperature - sum.ln()
                };
                let given = token.log_probabilities.as_ref().unwrap();
                let listed: Vec<u32> = given.top.iter().map(|top| top.token).collect();
                let mut likeliest: Vec<u32> = (0..VOCABULARY as u32).collect();
                likeliest.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]));
                assert_eq!(listed, likeliest[..3], "{rule:?} {i}");
                for top in &given.top {
                    let sum: f64 = row.iter().map(|x| x.exp()).sum();
                    let wanted = row[top.token as usize] - sum.ln();
                    assert!((f64::from(top.raw) - wanted).abs() < 1e-3, "{rule:?} {i}");
                    if top.token == token.id {
                        assert!((top.raw - given.raw).abs() < 1e-5, "{rule:?} {i}");
                        assert!(
                            (top.processed - given.processed).abs() < 1e-5,
                            "{rule:?} {i}"
                        );
                    }
                }
                assert!(
                    (f64::from(given.raw) - log_p(1.0)).abs() < 1e-3,
                    "{rule:?} {i}"
                );
                let warm = log_p(f64::from(WARM.temperature));
                if rule != Rule::Greedy {
                    assert!((f64::from(given.processed) - warm).abs() < 1e-3, "{i}");
                }
            }
        }
    });
}

#[test]
fn a_rule_that_does_not_fit_the_draft_is_refused_and_the_session_goes_on() {
    on_every_adapter(|gpu| {
        if gpu.is_slow() || !gpu.name.contains("all features") {
            return;
        }
        let (mut session, _) = model(gpu);
        session.set_drafter(Box::new(Always));
        let choice = TokenChoice {
            rule: Rule::ChainRejection,
            ..TokenChoice::sampled(WARM, 1)
        };
        let options = GenerateOptions {
            max_tokens: 8,
            choice,
            ..Default::default()
        };
        let results: Vec<_> = session.generate(&PROMPT, options).collect();
        let error = results.last().unwrap().as_ref().unwrap_err();
        assert!(matches!(error, GenerateError::Choice(_)), "{error}");
        assert!(error.to_string().contains("chains"), "{error}");
        let ngram = NgramDrafter::new(NgramOptions::default()).unwrap();
        session.set_drafter(Box::new(ngram));
        assert_eq!(answer(&mut session, 8, choice).len(), 8);
        // A drafter that can do both is asked for a chain: of four tokens each soon has several successors.
        let wide = NgramOptions {
            matches: 4,
            min_ngram: 1,
            ..NgramOptions::default()
        };
        session.set_drafter(Box::new(NgramDrafter::new(wide).unwrap()));
        for rule in [Rule::ChainRejection, Rule::Block] {
            let choice = TokenChoice { rule, ..choice };
            assert_eq!(answer(&mut session, 40, choice).len(), 40);
        }
    });
}
