//! An MTP module that comes into the middle of a text.

use sunfleck::draft::NoDrafter;

use super::real::{Model, prompts};
use crate::adapters::on_every_adapter;

#[test]
fn mtp_drafts_go_on_after_restore_shift_and_exchange() {
    on_every_adapter(|gpu| {
        if gpu.is_slow() || !gpu.name.contains("all features") {
            return;
        }
        let mut model = Model::open(gpu);
        let text = &prompts()[10].text;
        let plain = model.answer(text, 40).tokens;
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
