//! Kernels compiled by the browser beside everything else, which wgpu does not ask it for.

use std::{cell::RefCell, rc::Rc};

use js_sys::{Function, Object, Promise, Reflect};
use sunfleck::gpu::{Compiler, Compiling, MakePipeline};
use wasm_bindgen::{JsCast as _, prelude::*};
use wasm_bindgen_futures::JsFuture;

use crate::adopt;

/// `createComputePipelineAsync` of a `GPUDevice`.
#[derive(Debug)]
pub struct Asynchronous(pub JsValue);

/// What wgpu calls to make a pipeline.
const METHOD: &str = "createComputePipeline";

impl Compiler for Asynchronous {
    fn compile(&self, make: MakePipeline) -> Compiling {
        let device = self.0.clone();
        let started = start(&device, &make);
        Box::pin(async move {
            let compiled = async {
                let compiled = JsFuture::from(started?).await?;
                // wgpu gets the compiled one as if it had made it.
                adopt::answering(&device, METHOD, &compiled, || Ok(make()))
            };
            compiled.await.map_err(message)
        })
    }
}

/// Hands what `make` describes to the browser.
fn start(device: &JsValue, make: &MakePipeline) -> Result<Promise, JsValue> {
    let start: Function = Reflect::get(device, &"createComputePipelineAsync".into())?.dyn_into()?;
    let started: Rc<RefCell<Option<Result<JsValue, JsValue>>>> = Rc::default();
    let (on, answer) = (device.clone(), started.clone());
    let method: Closure<dyn FnMut(JsValue) -> JsValue> = Closure::new(move |descriptor| {
        *answer.borrow_mut() = Some(start.call1(&on, &descriptor));
        // For wgpu, which gives it up at once.
        Object::new().into()
    });
    adopt::shadowed(device, METHOD, method.as_ref(), || {
        drop(make());
        Ok(())
    })?;
    let started = started.borrow_mut().take();
    let promise = started.unwrap_or_else(|| Err("no pipeline was asked for".into()))?;
    promise.dyn_into()
}

fn message(error: JsValue) -> String {
    let message = adopt::property(&error, "message").as_string();
    message.unwrap_or_else(|| format!("{error:?}"))
}
