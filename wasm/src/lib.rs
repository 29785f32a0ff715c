//! sunfleck for JavaScript: the classes that the TypeScript of the npm package `sunfleck` wraps.
//!
//! Nothing here is called by users: shapes and options come as JSON text, buffers as the page's own
//! `GPUBuffer`s, errors leave as an `Error` with a `code`. Habits of the web (async iterators, `AbortSignal`,
//! `Error` subclasses, caches) are in `ts/`.

#![cfg(target_arch = "wasm32")]

mod adopt;
mod answer;
mod attention;
mod compiler;
mod device;
mod drafters;
mod error;
mod generator;
mod grammar;
mod hash;
mod json;
mod options;
mod source;
mod tree;
mod verify;

use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// Set by the TypeScript side: hears of a panic, after which this module must not be used again.
    #[wasm_bindgen(js_name = __sunfleckPanic, catch)]
    fn report_panic(message: &str) -> Result<(), JsValue>;
}

/// Runs when the module is loaded. A panic is a defect of this library; it still must reach the caller as
/// an error and not as a promise that never settles.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|info| {
        // Nobody listens when the module is used without the package's own entry.
        let _ = report_panic(&info.to_string());
    }));
}
