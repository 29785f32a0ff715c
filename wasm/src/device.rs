//! A device of the page with what kernels may use on it.

use std::sync::Arc;

use sunfleck::{
    gpu::{AdapterClass, BufferView, Capabilities, Dialect, Gpu, SubgroupSizes},
    wgpu,
};
use wasm_bindgen::prelude::*;

use crate::{
    adopt,
    compiler::Asynchronous,
    error::{Code, fail},
    json::Fields,
};

/// A `GPUDevice` of the page.
#[wasm_bindgen]
pub struct Device {
    pub(crate) gpu: Gpu,
    js: JsValue,
}

#[wasm_bindgen]
impl Device {
    /// Takes `device`, a `GPUDevice`. `info` has all fields of a `GPUAdapterInfo`; `options` is JSON:
    /// `subgroups` (`[smallest, largest]`, where the device has the feature), `tint` (the browser compiles WGSL
    /// with Tint), `software` (the adapter is a CPU), `floor` (use no optional feature), `checked` (keep
    /// run-time checks).
    pub async fn adopt(device: JsValue, info: JsValue, options: String) -> Result<Device, JsValue> {
        let mut options = Fields::parse("the device's options", &options)?;
        let sizes = options.f32s("subgroups")?;
        let tint = options.bool("tint")?;
        let software = options.bool("software")?;
        let floor = options.bool("floor")?;
        let checked = options.bool("checked")?;
        let unrolled = options.bool("unrolled")?;
        options.finish()?;
        let (wgpu_device, queue) = adopt::device(&device, &info).await?;
        let mut capabilities = Capabilities::of(&wgpu_device);
        // wgpu does not know the browser's subgroups; the page asked for them by itself.
        capabilities.subgroups = match sizes.as_deref() {
            Some([min, max]) => Some(SubgroupSizes {
                min: *min as u32,
                max: *max as u32,
            }),
            _ => None,
        };
        if tint {
            capabilities.dialect = Dialect::Tint;
        }
        if software {
            capabilities.class = AdapterClass::Software;
            capabilities.unrolled_shaders = unrolled;
        }
        capabilities.checked_shaders = checked;
        if floor {
            capabilities = capabilities.floor();
        }
        Ok(Self {
            gpu: Gpu::with_capabilities(&wgpu_device, &queue, capabilities)
                .with_compiler(Arc::new(Asynchronous(device.clone()))),
            js: device,
        })
    }

    /// Bytes of all buffers that were made for kernels and models on this device.
    #[wasm_bindgen(getter, js_name = allocatedBytes)]
    pub fn allocated_bytes(&self) -> f64 {
        self.gpu.allocated_bytes() as f64
    }

    /// What kernels use here, as JSON.
    pub fn capabilities(&self) -> String {
        let c = self.gpu.capabilities();
        serde_json::json!({
            "subgroups": c.subgroups.map(|sizes| [sizes.min, sizes.max]),
            "shaderF16": c.shader_f16,
            "timestamps": c.timestamps,
            "class": format!("{:?}", c.class).to_lowercase(),
            "compiler": format!("{:?}", c.dialect).to_lowercase(),
            "checked": c.checked_shaders,
            "unrolled": c.unrolled_shaders,
        })
        .to_string()
    }
}

/// A range of a buffer of the page.
pub struct View {
    buffer: wgpu::Buffer,
    offset: u64,
    size: u64,
}

impl View {
    /// The kernel argument.
    pub fn view(&self) -> BufferView<'_> {
        BufferView::range(&self.buffer, self.offset, self.size)
    }
}

impl Device {
    /// The argument `name`: a `GPUBuffer`, or `{ buffer, offset, size }`.
    pub(crate) fn view(&self, name: &str, argument: &JsValue) -> Result<View, JsValue> {
        let part = adopt::property(argument, "buffer");
        let whole = part.is_undefined();
        let buffer = match whole {
            true => argument,
            false => &part,
        };
        let buffer = adopt::buffer(self.gpu.device(), &self.js, name, buffer)?;
        let number = |field: &str, default: u64| match adopt::property(argument, field).as_f64() {
            None => Ok(default),
            Some(n) if n >= 0.0 && n.fract() == 0.0 => Ok(n as u64),
            Some(n) => Err(fail(
                Code::Argument,
                format!("`{field}` of `{name}` must be a whole number, given {n}"),
            )),
        };
        let offset = match whole {
            true => 0,
            false => number("offset", 0)?,
        };
        let rest = buffer.size().saturating_sub(offset);
        let size = match whole {
            true => rest,
            false => number("size", rest)?,
        };
        Ok(View {
            buffer,
            offset,
            size,
        })
    }

    /// As [`view`](Self::view) for an argument that may be missing.
    pub(crate) fn optional_view(
        &self,
        name: &str,
        argument: &JsValue,
    ) -> Result<Option<View>, JsValue> {
        match argument.is_undefined() || argument.is_null() {
            true => Ok(None),
            false => self.view(name, argument).map(Some),
        }
    }

    /// The page's encoder.
    pub(crate) fn encoder(&self, encoder: &JsValue) -> Result<wgpu::CommandEncoder, JsValue> {
        adopt::encoder(self.gpu.device(), &self.js, encoder)
    }
}
