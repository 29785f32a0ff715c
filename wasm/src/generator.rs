//! A model on the GPU, with its tokenizer and one sequence.

use js_sys::Function;
use serde_json::json;
use sunfleck::{
    draft::NoDrafter,
    generate::{CancelHandle, Session},
    model::{ChatTemplate, Decoder, Gguf, Hyperparameters, Tokenizer},
};
use wasm_bindgen::prelude::*;

use crate::{
    device::Device,
    drafters::{Drafters, Trained},
    error::{Code, fail},
    json::Fields,
    options,
    source::{ByteSource, JsSource},
};

/// A model on the GPU, with its tokenizer and one sequence.
#[wasm_bindgen]
pub struct Generator {
    pub(crate) session: Session,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) drafters: Drafters,
    chat: Result<ChatTemplate, String>,
    gguf: Gguf,
}

/// Ends an answer while it is being made, when nothing else can be called on its generator.
#[wasm_bindgen]
#[derive(Default)]
pub struct Cancel(pub(crate) CancelHandle);

#[wasm_bindgen]
impl Cancel {
    /// Nothing is cancelled yet.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the end.
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

#[wasm_bindgen]
impl Generator {
    /// Loads the file that `source` gives. `options` is JSON: `context`, `kv`, `page`, `maxDraft`. `progress` is
    /// called with bytes on the GPU and bytes in all; loading ends when the source rejects.
    pub async fn load(
        device: &Device,
        source: ByteSource,
        options: String,
        progress: Function,
    ) -> Result<Generator, JsValue> {
        let options = options::decoder(&options)?;
        let mut source = JsSource::new(source);
        let gguf: Gguf = source.header().await?;
        let tokenizer = Tokenizer::from_gguf(&gguf).map_err(|error| fail(Code::Model, error))?;
        Hyperparameters::from_gguf(&gguf).map_err(|error| fail(Code::Model, error))?;
        let chat = ChatTemplate::from_gguf(&gguf).map_err(|error| error.to_string());
        // Only a source can end the loading; the package's own `progress` does not throw.
        let mut report = |done: u64, total: u64| {
            let _ = progress.call2(
                &JsValue::UNDEFINED,
                &(done as f64).into(),
                &(total as f64).into(),
            );
        };
        let loaded =
            Decoder::load_from(&device.gpu, &gguf, &mut source, options, &mut report).await;
        let decoder = loaded.map_err(|error| source.explain(error))?;
        // Kernels that a prompt does not need compile after those that it does. An answer hears of errors.
        let compiled = decoder.compiled();
        wasm_bindgen_futures::spawn_local(async move { drop(compiled.await) });
        Ok(Self {
            session: Session::new(&device.gpu, decoder, Box::new(NoDrafter)),
            tokenizer,
            drafters: Drafters::default(),
            chat,
            gguf,
        })
    }

    /// Loads the trained drafter `kind` from the bytes of its safetensors file; `source` gives the model's file once
    /// more, of which the rows of `vocabulary` are read again (all where that is empty). `options` is JSON: those of
    /// [`Trained::load`].
    #[wasm_bindgen(js_name = loadDrafter)]
    pub async fn load_drafter(
        &mut self,
        device: &Device,
        source: ByteSource,
        kind: String,
        weights: Vec<u8>,
        vocabulary: Vec<u32>,
        options: String,
    ) -> Result<(), JsValue> {
        let Some((_, kind)) = Trained::NAMES.iter().find(|(name, _)| *name == kind) else {
            return Err(fail(
                Code::Argument,
                format!("`kind` of a drafter must be mtp, medusa or exit, given {kind}"),
            ));
        };
        let fields = Fields::parse("the options of the drafter", &options)?;
        let mut source = JsSource::new(source);
        let (decoder, gguf) = (self.session.decoder(), &self.gguf);
        let loading = kind.load(
            &device.gpu,
            decoder,
            gguf,
            &mut source,
            &weights,
            vocabulary,
            fields,
        );
        let drafter = loading.await?;
        self.drafters.insert(*kind, drafter);
        Ok(())
    }

    /// Shape and memory of the model, as JSON.
    pub fn describe(&self) -> String {
        let decoder = self.session.decoder();
        let h = decoder.hyperparameters();
        let name = self.gguf.get("general.name");
        json!({
            "name": name.and_then(|name| name.as_str("general.name").ok()),
            "layers": h.block_count,
            "width": h.embedding_length,
            "vocabulary": h.vocabulary,
            "queryHeads": h.head_count,
            "kvHeads": h.head_count_kv,
            "headDim": h.key_length,
            "trainedContext": h.context_length,
            "context": decoder.options().context,
            "maxDraft": decoder.options().max_draft,
            "gpuBytes": decoder.gpu_bytes(),
            "chat": self.chat.is_ok(),
            "drafters": self.drafters.names(),
            "fingerprint": format!("{:016x}", decoder.fingerprint()),
        })
        .to_string()
    }

    /// Token ids of `text`: as a user's turn in the model's chat template, or as it is where `raw`.
    pub fn encode(&self, text: &str, raw: bool) -> Result<Vec<u32>, JsValue> {
        if raw {
            return (self.tokenizer.encode_prompt(text))
                .map_err(|error| fail(Code::Generate, error));
        }
        let chat = self.chat()?;
        (chat.user_turn(&self.tokenizer, text)).map_err(|error| fail(Code::Generate, error))
    }

    /// Token ids of one more turn of the user after the answer that the generator holds.
    #[wasm_bindgen(js_name = encodeNext)]
    pub fn encode_next(&self, text: &str) -> Result<Vec<u32>, JsValue> {
        let last = self.session.tokens().last().copied();
        (self.chat()?.next_turn(&self.tokenizer, last, text))
            .map_err(|error| fail(Code::Generate, error))
    }

    /// Text of `tokens`; control tokens have none.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, JsValue> {
        (self.tokenizer.decode(tokens)).map_err(|error| fail(Code::Generate, error))
    }

    /// Prompt and answer so far.
    #[wasm_bindgen(getter)]
    pub fn tokens(&self) -> Vec<u32> {
        self.session.tokens().to_vec()
    }

    /// What `tree: "auto"` measured, counted and chose in the last answer, and why; nothing where it was not asked for.
    pub fn explain(&self) -> Option<String> {
        self.session.explain()
    }

    /// Waits until all kernels of the model are compiled.
    pub async fn compiled(&self) -> Result<(), JsValue> {
        let compiled = self.session.decoder().compiled().await;
        compiled.map_err(|error| fail(Code::Gpu, error))
    }

    /// What was measured for `tree: "auto"`, as JSON: an object of texts, by drafter.
    pub fn costs(&self) -> String {
        json!(self.drafters.costs()).to_string()
    }

    /// Takes such a text for the drafter `name`; one that can't be read, or is known better, changes nothing.
    #[wasm_bindgen(js_name = knowCosts)]
    pub fn know_costs(&mut self, name: &str, costs: &str) {
        self.drafters.know(name, costs);
    }

    /// Tokens that still fit the context.
    #[wasm_bindgen(getter)]
    pub fn room(&self) -> u32 {
        self.session.room()
    }
}

impl Generator {
    fn chat(&self) -> Result<&ChatTemplate, JsValue> {
        self.chat
            .as_ref()
            .map_err(|message| fail(Code::Generate, message))
    }
}
