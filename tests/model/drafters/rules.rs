//! Drafts of trained weights under the rules of sampling.

use sunfleck::{
    generate::TokenChoice,
    verify::{LossyTypical, Rule},
};

use super::real::{Model, prompts};
use crate::adapters::on_every_adapter;

#[test]
fn medusa_drafts_are_accepted_by_the_typical_rule_and_all_sampling_needs() {
    on_every_adapter(|gpu| {
        if gpu.is_slow() || !gpu.name.contains("all features") {
            return;
        }
        let mut model = Model::open(gpu);
        let text = &prompts()[0].text;
        let plain = model.answer(text, 20).tokens;
        for name in ["medusa", "mtp-tree"] {
            let drafter = model.drafter(gpu, name);
            model.session.set_drafter(drafter);
            // Sampled from one token: what is left of the law at top-k 1 is the argmax.
            let mut choice = TokenChoice::default();
            choice.sampling.temperature = 0.7;
            choice.sampling.top_k = 1;
            pollster::block_on(model.session.set_choice(choice)).unwrap();
            assert_eq!(model.answer(text, 20).tokens, plain, "{name}");
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
            let answer = model.answer(text, 20);
            assert_eq!(answer.tokens.len(), 20);
            assert!(answer.kept > 0 && answer.steps < 20, "{name}: {answer:?}");
            // A rule for chains is given one.
            let choice = TokenChoice {
                rule: Rule::Block,
                ..choice
            };
            pollster::block_on(model.session.set_choice(choice)).unwrap();
            model.read(text);
            let step = pollster::block_on(model.session.step(16)).unwrap();
            assert!(
                step.drafted > 0 && step.draft.is_chain(),
                "{name}: {step:?}"
            );
            pollster::block_on(model.session.set_choice(TokenChoice::default())).unwrap();
        }
    });
}
