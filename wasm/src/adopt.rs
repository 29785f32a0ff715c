//! The page's own WebGPU objects as wgpu objects.
//!
//! wgpu makes its devices, buffers and encoders itself by calling methods of the browser. Here such a method is
//! shadowed on one object for one synchronous call, and answers with the object that the page already has.
//! Nobody else can come between, since JavaScript runs one thing at a time.

use js_sys::{Function, Object, Promise, Reflect, Set};
use sunfleck::wgpu;
use wasm_bindgen::{JsCast as _, prelude::*};

use crate::error::{Code, fail};

/// A property of an object of the page.
pub fn property(object: &JsValue, name: &str) -> JsValue {
    Reflect::get(object, &name.into()).unwrap_or(JsValue::UNDEFINED)
}

/// Runs `run` while `object[name]` is `value`, and then as before.
pub fn shadowed<T>(
    object: &JsValue,
    name: &str,
    value: &JsValue,
    run: impl FnOnce() -> Result<T, JsValue>,
) -> Result<T, JsValue> {
    let object: &Object = object.unchecked_ref();
    let key = JsValue::from(name);
    let before = Reflect::get_own_property_descriptor(object, &key)?;
    let descriptor = Object::new();
    Reflect::set(&descriptor, &"value".into(), value)?;
    Reflect::set(&descriptor, &"configurable".into(), &true.into())?;
    if !Reflect::define_property(object, &key, &descriptor)? {
        return Err(fail(
            Code::Gpu,
            format!("`{name}` of a WebGPU object is frozen; give objects as the browser made them"),
        ));
    }
    let result = run();
    match before.is_undefined() {
        true => Reflect::delete_property(object, &key)?,
        false => Reflect::define_property(object, &key, before.unchecked_ref())?,
    };
    result
}

/// Runs `run` while the method `name` of `object` answers `answer`.
pub fn answering<T>(
    object: &JsValue,
    name: &str,
    answer: &JsValue,
    run: impl FnOnce() -> Result<T, JsValue>,
) -> Result<T, JsValue> {
    let method = answer_function(answer);
    shadowed(object, name, method.as_ref(), run)
}

fn answer_function(answer: &JsValue) -> Closure<dyn FnMut() -> JsValue> {
    let answer = answer.clone();
    Closure::new(move || answer.clone())
}

/// `device`, a `GPUDevice`, with its queue. `info` are the fields of a `GPUAdapterInfo`.
pub async fn device(
    device: &JsValue,
    info: &JsValue,
) -> Result<(wgpu::Device, wgpu::Queue), JsValue> {
    let adapter = Object::new();
    let set = |name: &str, value: &JsValue| Reflect::set(&adapter, &name.into(), value);
    let request_device = answer_function(&Promise::resolve(device).into());
    set("requestDevice", request_device.as_ref())?;
    for name in ["features", "limits"] {
        set(name, &property(device, name))?;
    }
    set("info", info)?;
    let request_adapter = answer_function(&Promise::resolve(&adapter).into());
    let gpu = Object::new();
    let method: &Function = request_adapter.as_ref().unchecked_ref();
    Reflect::set(&gpu, &"requestAdapter".into(), method)?;
    let language = Set::new(&JsValue::UNDEFINED);
    Reflect::set(&gpu, &"wgslLanguageFeatures".into(), &language)?;

    let instance = in_scope(&gpu, || {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = wgpu::Backends::BROWSER_WEBGPU;
        Ok(wgpu::Instance::new(descriptor))
    })?;
    let adapter = instance
        .request_adapter(&wgpu::RequestAdapterOptions::default())
        .await
        .map_err(|error| fail(Code::Gpu, error))?;
    adapter
        .request_device(&wgpu::DeviceDescriptor::default())
        .await
        .map_err(|error| fail(Code::Gpu, error))
}

/// Runs `run` while `navigator.gpu` is `gpu`, also where there is no navigator, as in Node.
fn in_scope<T>(gpu: &JsValue, run: impl FnOnce() -> Result<T, JsValue>) -> Result<T, JsValue> {
    let global: JsValue = js_sys::global().into();
    let navigator = property(&global, "navigator");
    let of_browser = ["Window", "WorkerGlobalScope"]
        .iter()
        .any(|name| !property(&global, name).is_undefined());
    if of_browser && navigator.is_object() {
        return shadowed(&navigator, "gpu", gpu, run);
    }
    let navigator = Object::new();
    Reflect::set(&navigator, &"gpu".into(), gpu)?;
    shadowed(&global, "navigator", &navigator, || {
        shadowed(&global, "WorkerGlobalScope", &Object::new(), run)
    })
}

/// `buffer`, a `GPUBuffer` of the same device.
pub fn buffer(
    device: &wgpu::Device,
    js_device: &JsValue,
    name: &str,
    buffer: &JsValue,
) -> Result<wgpu::Buffer, JsValue> {
    let size = property(buffer, "size").as_f64();
    let usage = property(buffer, "usage").as_f64();
    let (Some(size), Some(usage)) = (size, usage) else {
        return Err(fail(
            Code::Argument,
            format!("`{name}` must be a GPUBuffer or {{ buffer, offset, size }}"),
        ));
    };
    answering(js_device, "createBuffer", buffer, || {
        Ok(device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(name),
            size: size as u64,
            usage: wgpu::BufferUsages::from_bits_truncate(usage as u32),
            mapped_at_creation: false,
        }))
    })
}

/// `encoder`, a `GPUCommandEncoder` of the same device. The page finishes and submits it.
pub fn encoder(
    device: &wgpu::Device,
    js_device: &JsValue,
    encoder: &JsValue,
) -> Result<wgpu::CommandEncoder, JsValue> {
    if !property(encoder, "beginComputePass").is_function() {
        return Err(fail(
            Code::Argument,
            "`encoder` must be a GPUCommandEncoder that is not finished",
        ));
    }
    answering(js_device, "createCommandEncoder", encoder, || {
        Ok(device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default()))
    })
}
