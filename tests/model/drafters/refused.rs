//! Weights and models that do not fit the model are refused.

use std::io::Cursor;

use sunfleck::{
    draft::{
        DrafterLoadError, ExitDrafter, ExitOptions, MedusaDrafter, MedusaOptions, ModelDrafter,
        NoDrafter, check_same_vocabulary,
    },
    model::{DecoderOptions, Gguf},
};

use super::real::{EXIT, MEDUSA, MTP};
use crate::{
    adapters::on_every_adapter,
    decoder::{config, open as open_tiny, options},
    gguf_writer::{Storage, Value, tiny_llama},
    random::Random,
};

#[test]
fn what_does_not_fit_the_model_is_refused() {
    on_every_adapter(|gpu| {
        if !gpu.runs_models() || gpu.is_slow() || !gpu.name.contains("all features") {
            return;
        }
        let storage = Storage {
            matrices: sunfleck::reference::blocks::BlockFormat::F32,
            odd_ones: sunfleck::reference::blocks::BlockFormat::F32,
            tied: true,
        };
        let mut random = Random(3);
        let (file, _) = tiny_llama(&config(), storage, |n| random.normals(n));
        let bytes = file.bytes();
        let session = open_tiny(&gpu.gpu, &bytes, options(), Box::new(NoDrafter));
        let gguf = Gguf::read(&mut Cursor::new(&bytes)).unwrap();
        let (decoder, reader) = (session.decoder(), &mut Cursor::new(&bytes));
        let options_ = MedusaOptions::default();
        let refused = MedusaDrafter::load(&gpu.gpu, decoder, &gguf, reader, MTP, &options_);
        let refused = pollster::block_on(refused).unwrap_err();
        assert!(
            matches!(refused, DrafterLoadError::Missing { .. }),
            "{refused}"
        );
        let refused = MedusaDrafter::load(&gpu.gpu, decoder, &gguf, reader, MEDUSA, &options_);
        let refused = pollster::block_on(refused).unwrap_err();
        assert!(
            matches!(refused, DrafterLoadError::Shape { .. }),
            "{refused}"
        );
        let no_exit = ExitOptions {
            layers: 2,
            ..Default::default()
        };
        let refused = ExitDrafter::load(&gpu.gpu, decoder, &gguf, reader, EXIT, &no_exit);
        let refused = pollster::block_on(refused).unwrap_err();
        assert!(
            matches!(refused, DrafterLoadError::Option { .. }),
            "{refused}"
        );
        let one = ExitOptions {
            layers: 1,
            ..Default::default()
        };
        let refused = ExitDrafter::load(&gpu.gpu, decoder, &gguf, reader, EXIT, &one);
        let refused = pollster::block_on(refused).unwrap_err();
        assert!(
            matches!(refused, DrafterLoadError::Missing { .. }),
            "{refused}"
        );

        // A draft model with other tokens.
        let mut other = sunfleck::reference::decoder::DecoderConfig {
            vocab: 131,
            ..config()
        };
        other.layers = 1;
        let (other, _) = tiny_llama(&other, storage, |n| random.normals(n));
        let draft = open_tiny(&gpu.gpu, &other.bytes(), options(), Box::new(NoDrafter));
        let draft = draft.into_decoder();
        let refused = ModelDrafter::new(&gpu.gpu, decoder, draft, 4).unwrap_err();
        assert!(matches!(refused, DrafterLoadError::OtherVocabulary { .. }));
        // A paged cache.
        let paged = DecoderOptions {
            page: Some(16),
            ..options()
        };
        let draft = open_tiny(&gpu.gpu, &bytes, paged, Box::new(NoDrafter)).into_decoder();
        let refused = ModelDrafter::new(&gpu.gpu, decoder, draft, 4).unwrap_err();
        assert!(matches!(refused, DrafterLoadError::Option { .. }));
    });
}

#[test]
fn vocabularies_are_compared_token_by_token() {
    let with = |tokens: &[&str]| {
        let mut file = crate::gguf_writer::GgufWriter::default();
        let tokens = tokens.iter().map(|&token| token.to_owned()).collect();
        file.set("tokenizer.ggml.tokens", Value::Texts(tokens));
        Gguf::read(&mut Cursor::new(file.bytes())).unwrap()
    };
    let target = with(&["a", "b", "c"]);
    assert!(check_same_vocabulary(&target, &with(&["a", "b", "c"])).is_ok());
    let error = check_same_vocabulary(&target, &with(&["a", "x", "c"])).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("\"x\" where the model has \"b\" as token 1")
    );
    let error = check_same_vocabulary(&target, &with(&["a", "b"])).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("2 tokens where the model has 3 tokens")
    );
}
