//! Choosing an adapter and opening a device that reports errors instead of panicking.

use std::{
    error::Error,
    sync::{Arc, Mutex, PoisonError},
};

use sunfleck::wgpu;
use wgpu::{Adapter, AdapterInfo, Backends, DeviceType, DownlevelFlags, Features, Limits};

use crate::print;

/// Adapters of the backends that run the kernels, best first.
async fn adapters() -> Vec<Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let mut adapters = instance.enumerate_adapters(Backends::PRIMARY).await;
    adapters.sort_by_key(|adapter| rank(&adapter.get_info()));
    adapters
}

/// Real GPUs before software, and among software adapters the fastest known first.
fn rank(info: &AdapterInfo) -> (u8, bool) {
    let kind = match info.device_type {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    };
    (kind, !info.name.contains("llvmpipe"))
}

fn describe(info: &AdapterInfo) -> String {
    format!(
        "{} ({:?}, {:?}, {})",
        info.name, info.device_type, info.backend, info.driver
    )
}

const NO_ADAPTER: &str = "no GPU adapter was found. Install a Vulkan driver for your GPU, or a \
    software one: on Debian and Ubuntu `sudo apt-get install mesa-vulkan-drivers libvulkan1`";

/// Prints the adapters.
pub fn list(json: bool) -> Result<(), Box<dyn Error>> {
    let adapters = pollster::block_on(adapters());
    let infos = adapters.iter().map(Adapter::get_info);
    if json {
        let rows: Vec<_> = infos
            .map(|info| {
                serde_json::json!({
                    "name": info.name,
                    "backend": info.backend.to_string(),
                    "device_type": format!("{:?}", info.device_type),
                    "driver": format!("{} {}", info.driver, info.driver_info).trim(),
                })
            })
            .collect();
        print::line(serde_json::Value::from(rows))?;
        return Ok(());
    }
    if adapters.is_empty() {
        return Err(NO_ADAPTER.into());
    }
    for info in infos {
        if !print::line(describe(&info))? {
            break;
        }
    }
    Ok(())
}

/// A device, its adapter, and the first error it reported outside of a call.
pub struct OpenDevice {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub info: AdapterInfo,
    error: Arc<Mutex<Option<String>>>,
}

impl OpenDevice {
    /// Opens the best adapter, or the first that `wanted` names.
    pub async fn open(wanted: Option<&str>) -> Result<Self, Box<dyn Error>> {
        let adapters = adapters().await;
        if adapters.is_empty() {
            return Err(NO_ADAPTER.into());
        }
        let matches = |info: &AdapterInfo, wanted: &str| {
            describe(info)
                .to_lowercase()
                .contains(&wanted.to_lowercase())
        };
        let found = adapters
            .iter()
            .find(|adapter| wanted.is_none_or(|wanted| matches(&adapter.get_info(), wanted)));
        let Some(adapter) = found else {
            let names: Vec<_> = adapters.iter().map(|a| describe(&a.get_info())).collect();
            return Err(format!(
                "no adapter is called {:?}; there are: {}",
                wanted.unwrap_or_default(),
                names.join("; ")
            )
            .into());
        };
        let info = adapter.get_info();
        let flags = adapter.get_downlevel_capabilities().flags;
        if !flags.contains(DownlevelFlags::COMPUTE_SHADERS) {
            return Err(format!(
                "adapter {} has no compute shaders, on which every kernel runs; use another \
                 (`sunfleck adapters` lists them)",
                info.name
            )
            .into());
        }
        // The limits every WebGPU device has, less where the adapter has less: kernels and
        // buffers are checked against them.
        let descriptor = wgpu::DeviceDescriptor {
            required_features: adapter.features() & (Features::SUBGROUP | Features::SHADER_F16),
            required_limits: Limits::default().or_worse_values_from(&adapter.limits()),
            ..Default::default()
        };
        let (device, queue) = adapter
            .request_device(&descriptor)
            .await
            .map_err(|error| format!("adapter {} gave no device: {error}", info.name))?;
        let error = Arc::new(Mutex::new(None));
        let first = error.clone();
        let keep = move |message: String| {
            let mut slot = first.lock().unwrap_or_else(PoisonError::into_inner);
            slot.get_or_insert(message);
        };
        let lost = keep.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| keep(error.to_string())));
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                lost(format!("the device was lost: {message}"));
            }
        });
        Ok(Self {
            device,
            queue,
            info,
            error,
        })
    }

    /// Fails with the first error the device reported, if there is one.
    pub fn check(&self) -> Result<(), Box<dyn Error>> {
        let mut slot = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.take() {
            None => Ok(()),
            Some(message) => {
                Err(format!("the device {} reported: {message}", self.info.name).into())
            }
        }
    }
}
