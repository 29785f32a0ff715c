//! How answers end, and what a session holds afterwards.

use sunfleck::{
    draft::NoDrafter,
    generate::{CancelHandle, Finish, GenerateOptions, Session},
    model::DecoderOptions,
    reference::blocks::BlockFormat,
};

use crate::{
    adapters::{TestGpu, on_every_adapter},
    decoder::{config, open, options},
    gguf_writer::{Storage, tiny_llama},
    random::Random,
};

const PROMPT: [u32; 4] = [5, 17, 99, 3];

fn session(gpu: &TestGpu, options: DecoderOptions) -> Session {
    let mut random = Random(4);
    let storage = Storage {
        matrices: BlockFormat::F32,
        odd_ones: BlockFormat::F32,
        tied: true,
    };
    let (file, _) = tiny_llama(&config(), storage, |n| random.normals(n));
    open(&gpu.gpu, &file.bytes(), options, Box::new(NoDrafter))
}

pub fn on_one_adapter(test: impl Fn(&TestGpu)) {
    on_every_adapter(|gpu| {
        if !gpu.is_slow() && gpu.name.contains("all features") {
            test(gpu);
        }
    });
}

fn tokens(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        max_tokens,
        ..Default::default()
    }
}

fn ids(session: &mut Session, prompt: &[u32], options: GenerateOptions) -> Vec<u32> {
    let stream = session.generate(prompt, options);
    stream.map(|token| token.unwrap().id).collect()
}

#[test]
fn a_session_holds_prompt_and_answer_and_no_more() {
    on_one_adapter(|gpu| {
        let mut session = session(gpu, options());
        let answer = ids(&mut session, &PROMPT, tokens(6));
        assert_eq!(session.tokens(), [&PROMPT[..], &answer].concat());
        // The token that ended the answer stays, so that the next prompt follows it.
        let mut again = self::session(gpu, options());
        let end = GenerateOptions {
            end_tokens: vec![answer[3]],
            ..tokens(6)
        };
        let at = answer.iter().position(|id| *id == answer[3]).unwrap();
        let cut = ids(&mut again, &PROMPT, end);
        assert_eq!(cut, answer[..at]);
        assert_eq!(again.tokens(), [&PROMPT[..], &answer[..=at]].concat());
    });
}

#[test]
fn a_cancelled_answer_ends_in_order_and_the_session_goes_on() {
    on_one_adapter(|gpu| {
        let mut session = session(gpu, options());
        let whole = ids(&mut session, &PROMPT, tokens(8));
        session.reset();
        let cancel = CancelHandle::default();
        let mut stream = session
            .generate(&PROMPT, tokens(8))
            .with_cancel(cancel.clone());
        let some: Vec<u32> = stream.by_ref().take(3).map(|t| t.unwrap().id).collect();
        cancel.cancel();
        assert!(stream.next().is_none());
        assert_eq!(stream.finish(), Some(Finish::Cancelled));
        drop(stream);
        assert_eq!(session.tokens(), [&PROMPT[..], &some].concat());
        // Cancelled before the prompt was read: as if it had not been given.
        let mut stream = session
            .generate(&[7, 8], tokens(8))
            .with_cancel(cancel.clone());
        assert!(stream.next().is_none());
        drop(stream);
        assert_eq!(session.tokens(), [&PROMPT[..], &some].concat());
        let step = pollster::block_on(session.step(1)).unwrap();
        assert_eq!(step.tokens, whole[3..4]);
    });
}

#[test]
fn a_shifted_context_goes_on_as_if_only_the_kept_tokens_had_been_read() {
    on_one_adapter(|gpu| {
        for page in [None, Some(16)] {
            let small = DecoderOptions {
                context: 40,
                page,
                ..options()
            };
            let mut session = session(gpu, small);
            let full = ids(&mut session, &PROMPT, tokens(100));
            assert_eq!(full.len(), 37, "one after the prompt and one a free slot");
            session.reset();
            let shifting = GenerateOptions {
                context_shift: Some(4),
                ..tokens(100)
            };
            let mut stream = session.generate(&PROMPT, shifting);
            let long: Vec<u32> = stream.by_ref().map(|token| token.unwrap().id).collect();
            assert!(stream.statistics().shifts >= 3);
            assert_eq!(
                (long.len(), stream.finish()),
                (100, Some(Finish::MaxTokens))
            );
            drop(stream);
            assert_eq!(long[..37], full);
            // The first shift keeps 4 sinks and the later half of 37.
            let known = [&PROMPT[..], &full[18..]].concat();
            session.reset();
            let next = ids(&mut session, &known, tokens(5));
            assert_eq!(next, long[37..42], "page {page:?}");
        }
    });
}
