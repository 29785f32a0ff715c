//! Errors as JavaScript sees them.

use js_sys::{Error, Reflect};
use wasm_bindgen::JsValue;

/// What kind of operation failed; the TypeScript side makes an `Error` subclass of it.
#[derive(Clone, Copy)]
pub enum Code {
    /// The device, a kernel or a buffer.
    Gpu,
    /// A problem, plan or call of attention.
    Attention,
    /// A problem, plan or call of verification.
    Verify,
    /// A draft tree.
    Tree,
    /// A model file.
    Model,
    /// A prompt or a generation.
    Generate,
    /// A grammar.
    Grammar,
    /// An argument of the wrong form.
    Argument,
}

impl Code {
    fn name(self) -> &'static str {
        match self {
            Self::Gpu => "gpu",
            Self::Attention => "attention",
            Self::Verify => "verify",
            Self::Tree => "tree",
            Self::Model => "model",
            Self::Generate => "generate",
            Self::Grammar => "grammar",
            Self::Argument => "argument",
        }
    }
}

/// An `Error` with `message` and `code`.
pub fn fail(code: Code, message: impl std::fmt::Display) -> JsValue {
    let error: JsValue = Error::new(&message.to_string()).into();
    // An Error is an ordinary object: setting a property of it can't fail.
    let _ = Reflect::set(&error, &"code".into(), &code.name().into());
    error
}
