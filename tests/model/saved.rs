//! Sessions that are saved and restored.

use sunfleck::{
    attention::Element,
    draft::{Drafter, NgramDrafter, NgramOptions, NoDrafter},
    generate::{GenerateOptions, SavedSessionError, Session, TokenChoice},
    model::DecoderOptions,
    reference::blocks::BlockFormat,
    verify::Sampling,
};

use crate::{
    adapters::TestGpu,
    decoder::{config, open, options},
    gguf_writer::{Storage, tiny_llama},
    random::Random,
    sessions::on_one_adapter,
};

fn session(gpu: &TestGpu, seed: u64, options: DecoderOptions, drafts: bool) -> Session {
    let mut random = Random(seed);
    let storage = Storage {
        matrices: BlockFormat::F32,
        odd_ones: BlockFormat::F32,
        tied: true,
    };
    let (file, _) = tiny_llama(&config(), storage, |n| random.normals(n));
    let drafter: Box<dyn Drafter> = match drafts {
        true => Box::new(NgramDrafter::new(NgramOptions::default()).unwrap()),
        false => Box::new(NoDrafter),
    };
    open(&gpu.gpu, &file.bytes(), options, drafter)
}

fn with(cache: Element, page: Option<u32>) -> DecoderOptions {
    DecoderOptions {
        cache,
        page,
        ..options()
    }
}

fn answer(session: &mut Session, prompt: &[u32], tokens: usize) -> Vec<u32> {
    let options = GenerateOptions {
        max_tokens: tokens,
        choice: *session.choice(),
        ..Default::default()
    };
    let stream = session.generate(prompt, options);
    stream.map(|token| token.unwrap().id).collect()
}

fn save(session: &Session) -> Vec<u8> {
    pollster::block_on(session.save()).unwrap()
}

/// 20 tokens over two pages, so that pages matter.
fn prompt() -> Vec<u32> {
    (0..20).map(|i| i * 5 % 13 + 1).collect()
}

#[test]
fn a_restored_session_goes_on_with_the_same_tokens() {
    on_one_adapter(|gpu| {
        for (cache, from, to) in [
            (Element::F32, None, None),
            (Element::F32, Some(16), None),
            (Element::F16, None, Some(32)),
            (Element::Q8, Some(16), Some(16)),
            (Element::Q4, None, None),
        ] {
            let what = format!("{cache:?} {from:?} {to:?}");
            let mut first = session(gpu, 4, with(cache, from), true);
            answer(&mut first, &prompt(), 7);
            let bytes = save(&first);
            let expected = answer(&mut first, &[9, 2], 12);
            // The second one held something else before.
            let mut second = session(gpu, 4, with(cache, to), true);
            answer(&mut second, &[3; 40], 3);
            second.restore(&bytes).unwrap();
            assert_eq!(second.tokens().len(), 27, "{what}");
            assert_eq!(save(&second), bytes, "{what}");
            assert_eq!(answer(&mut second, &[9, 2], 12), expected, "{what}");
            // What it holds matters: without it the answer is another one.
            second.reset();
            assert_ne!(answer(&mut second, &[9, 2], 12), expected, "{what}");
        }
    });
}

#[test]
fn positions_of_random_numbers_are_saved_too() {
    on_one_adapter(|gpu| {
        let small = DecoderOptions {
            context: 40,
            ..options()
        };
        let warm = Sampling {
            temperature: 1.5,
            ..Sampling::default()
        };
        let choice = TokenChoice::sampled(warm, 7);
        let mut first = session(gpu, 4, small, false);
        pollster::block_on(first.set_choice(choice)).unwrap();
        answer(&mut first, &prompt(), 5);
        pollster::block_on(first.shift_context(4)).unwrap();
        let bytes = save(&first);
        let expected = answer(&mut first, &[9], 10);
        let mut second = session(gpu, 4, small, false);
        pollster::block_on(second.set_choice(choice)).unwrap();
        second.restore(&bytes).unwrap();
        assert_eq!(answer(&mut second, &[9], 10), expected);
    });
}

#[test]
fn an_empty_session_comes_back_empty() {
    on_one_adapter(|gpu| {
        for page in [None, Some(16)] {
            let mut session = session(gpu, 4, with(Element::F32, page), false);
            let bytes = save(&session);
            let expected = answer(&mut session, &[1, 2], 4);
            session.restore(&bytes).unwrap();
            assert!(session.tokens().is_empty());
            assert_eq!(answer(&mut session, &[1, 2], 4), expected);
        }
    });
}

#[test]
fn what_does_not_fit_is_refused_and_the_session_goes_on() {
    on_one_adapter(|gpu| {
        let mut first = session(gpu, 4, options(), false);
        answer(&mut first, &prompt(), 7);
        let bytes = save(&first);
        let refuse = |session: &mut Session, bytes: &[u8]| {
            let before = session.tokens().to_vec();
            let error = session.restore(bytes).unwrap_err();
            assert_eq!(session.tokens(), before);
            error
        };
        let mut other = session(gpu, 5, options(), false);
        answer(&mut other, &[1, 2], 2);
        let error = refuse(&mut other, &bytes);
        assert!(matches!(error, SavedSessionError::OtherModel { .. }));
        let mut half = session(gpu, 4, with(Element::F16, None), false);
        let error = refuse(&mut half, &bytes);
        assert!(matches!(error, SavedSessionError::OtherCache { .. }));
        assert!(error.to_string().contains("F16"), "{error}");
        let short = DecoderOptions {
            context: 25,
            ..options()
        };
        let mut short = session(gpu, 4, short, false);
        let error = refuse(&mut short, &bytes);
        assert!(
            matches!(
                error,
                SavedSessionError::TooLong {
                    given: 26,
                    context: 25
                }
            ),
            "{error}"
        );

        let error = refuse(&mut first, b"GGUF and more");
        assert!(matches!(error, SavedSessionError::NotASession));
        let error = refuse(&mut first, &bytes[..bytes.len() - 1]);
        assert!(matches!(error, SavedSessionError::Truncated { .. }));
        let mut newer = bytes.clone();
        newer[8] = 2;
        let error = refuse(&mut first, &newer);
        assert!(matches!(error, SavedSessionError::Version { given: 2, .. }));
        let mut changed = bytes.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        let error = refuse(&mut first, &changed);
        assert!(matches!(error, SavedSessionError::Damaged { .. }));
        // None of it did anything to the first session.
        let expected = answer(&mut first, &[9], 6);
        first.restore(&bytes).unwrap();
        assert_eq!(answer(&mut first, &[9], 6), expected);
    });
}
