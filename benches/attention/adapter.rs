//! The adapter that is measured, and the profile that kernels are planned under.

use sunfleck::{
    gpu::{AdapterClass, Capabilities, Gpu},
    wgpu,
};

/// What the plans may use of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Everything it has.
    Full,
    /// No optional feature, and the limits that WebGPU guarantees everywhere.
    Floor,
}

impl Profile {
    /// Name in ids and file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Floor => "floor",
        }
    }

    /// The profile that `SUNFLECK_BENCH_PROFILE` names; full without it.
    pub fn from_environment() -> Self {
        match std::env::var("SUNFLECK_BENCH_PROFILE").as_deref() {
            Err(_) | Ok("" | "full") => Self::Full,
            Ok("floor") => Self::Floor,
            Ok(other) => panic!("SUNFLECK_BENCH_PROFILE is {other:?}; it must be full or floor"),
        }
    }
}

/// The device under measurement.
pub struct BenchGpu {
    /// What the adapter says about itself.
    pub info: wgpu::AdapterInfo,
    /// With all of the device: peaks, rival and tensors.
    pub gpu: Gpu,
    /// With the profile's capabilities: the kernels of this crate.
    pub planned: Gpu,
    /// The profile of `planned`.
    pub profile: Profile,
}

impl BenchGpu {
    /// Opens the first adapter whose name contains `SUNFLECK_BENCH_ADAPTER`, with the features
    /// that kernels may use, timestamps, and all of its limits: large cases need its buffer sizes.
    pub fn open() -> Self {
        let wanted = std::env::var("SUNFLECK_BENCH_ADAPTER").unwrap_or_default();
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
        let names: Vec<_> = adapters.iter().map(|a| a.get_info().name).collect();
        let adapter = adapters
            .into_iter()
            .find(|adapter| adapter.get_info().name.contains(&wanted))
            .unwrap_or_else(|| {
                panic!(
                    "no GPU adapter has {wanted:?} in its name, there are {names:?}; \
                     `cargo xtask setup` installs a software one"
                )
            });
        let matrices = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        let features = wgpu::Features::SUBGROUP
            | wgpu::Features::SHADER_F16
            | wgpu::Features::TIMESTAMP_QUERY
            | matrices;
        // SAFETY: wgpu asks for this word because experimental features may have bugs; kernels on
        // them are tried for right results before they are used.
        #[allow(unsafe_code)]
        let experimental = match adapter.features().contains(matrices) {
            true => unsafe { wgpu::ExperimentalFeatures::enabled() },
            false => wgpu::ExperimentalFeatures::disabled(),
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            required_features: features & adapter.features(),
            required_limits: adapter.limits(),
            experimental_features: experimental,
            ..Default::default()
        }))
        .expect("a device with the adapter's own limits");
        let profile = Profile::from_environment();
        let capabilities = Capabilities::of(&device).with_matrices_of(&device, &adapter);
        let planned = match profile {
            Profile::Full => capabilities.clone(),
            Profile::Floor => capabilities.clone().floor(),
        };
        Self {
            info: adapter.get_info(),
            gpu: Gpu::with_capabilities(&device, &queue, capabilities),
            planned: Gpu::with_capabilities(&device, &queue, planned),
            profile,
        }
    }

    /// Whether the adapter is a CPU: it gets smaller cases.
    pub fn software(&self) -> bool {
        self.gpu.capabilities().class == AdapterClass::Software
    }

    /// The adapter's name as part of a file name.
    pub fn slug(&self) -> String {
        slug(&self.info.name)
    }
}

/// `name` in lower case, with one hyphen for everything but letters and digits.
fn slug(name: &str) -> String {
    name.split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect::<Vec<_>>()
        .join("-")
}
