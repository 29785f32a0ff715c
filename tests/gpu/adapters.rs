//! The adapters that tests run on.
//!
//! `SUNFLECK_TEST_ADAPTERS` names parts of the adapters' names that must all be there, as
//! `cargo xtask test` sets it: a missing one fails the tests. Without it, tests run on every
//! adapter present, and fail where there is none. `SUNFLECK_TEST_FEATURES=none` opens devices with no optional feature at
//! all, as every WebGPU device can be; `SUNFLECK_TEST_CHECKED=1` keeps the compiler's run-time checks in every kernel.

use std::sync::OnceLock;

use sunfleck::{
    gpu::{Capabilities, Gpu},
    wgpu,
};

/// An adapter under test, with the capabilities that kernels may use there.
pub struct TestGpu {
    /// Adapter and profile, for messages.
    pub name: String,
    /// The device.
    pub gpu: Gpu,
}

/// Features that kernels make use of where a device has them.
fn wanted_features() -> wgpu::Features {
    if std::env::var("SUNFLECK_TEST_FEATURES").is_ok_and(|features| features == "none") {
        return wgpu::Features::empty();
    }
    wgpu::Features::SUBGROUP
        | wgpu::Features::SHADER_F16
        | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
}

fn open() -> Vec<TestGpu> {
    let all_checked = std::env::var_os("SUNFLECK_TEST_CHECKED").is_some_and(|set| set != "0");
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    let wanted: Vec<String> = std::env::var("SUNFLECK_TEST_ADAPTERS")
        .map(|names| names.split(',').map(str::to_owned).collect())
        .unwrap_or_default();
    let names: Vec<_> = adapters.iter().map(|a| a.get_info().name).collect();
    for want in &wanted {
        assert!(
            names.iter().any(|name| name.contains(want)),
            "no adapter named like {want:?} among {names:?}: run `cargo xtask test`, which installs it"
        );
    }
    assert!(
        !adapters.is_empty(),
        "no GPU adapter: run `cargo xtask test`, which installs a software one"
    );
    let mut gpus = Vec::new();
    for adapter in adapters {
        let info = adapter.get_info();
        if !wanted.is_empty() && !wanted.iter().any(|want| info.name.contains(want)) {
            continue;
        }
        let features = wanted_features();
        let matrices = adapter.features() & features;
        let matrices = matrices.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
        let limits = adapter.limits();
        // SAFETY: wgpu asks for this word because experimental features may have bugs; a test is
        // where to find them.
        #[allow(unsafe_code)]
        let experimental = unsafe { wgpu::ExperimentalFeatures::enabled() };
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            required_features: features & adapter.features(),
            // Kernels on matrices need more workgroup memory than WebGPU promises.
            required_limits: wgpu::Limits {
                max_compute_workgroup_storage_size: match matrices {
                    true => limits.max_compute_workgroup_storage_size,
                    false => wgpu::Limits::default().max_compute_workgroup_storage_size,
                },
                ..Default::default()
            },
            experimental_features: match matrices {
                true => experimental,
                false => wgpu::ExperimentalFeatures::disabled(),
            },
            ..Default::default()
        }))
        .unwrap_or_else(|error| panic!("no device on {}: {error}", info.name));
        let mut capabilities = Capabilities::of(&device).with_matrices_of(&device, &adapter);
        capabilities.checked_shaders |= all_checked;
        let mut push = |profile: &str, capabilities: Capabilities| {
            gpus.push(TestGpu {
                name: format!("{} ({profile})", info.name),
                gpu: Gpu::with_capabilities(&device, &queue, capabilities),
            });
        };
        push("all features", capabilities.clone());
        // The kernels that hardware gets, with the compiler's run-time checks where compiling
        // them does not take minutes; and those of a software adapter with no optional feature.
        let swiftshader = info.name.contains("SwiftShader");
        push(
            "hardware kernels",
            Capabilities {
                class: sunfleck::gpu::AdapterClass::Hardware,
                checked_shaders: all_checked || !swiftshader,
                ..capabilities.clone().floor()
            },
        );
        if !swiftshader {
            push("no optional feature", capabilities.floor());
        }
    }
    gpus
}

/// Every adapter and profile.
pub fn all() -> &'static [TestGpu] {
    static GPUS: OnceLock<Vec<TestGpu>> = OnceLock::new();
    GPUS.get_or_init(open)
}

/// Runs `test` on every adapter and profile.
pub fn on_every_adapter(test: impl Fn(&TestGpu)) {
    all().iter().for_each(test);
}

impl TestGpu {
    /// The same device with no kernel compiled yet: where thousands of variants would pile up.
    #[allow(dead_code)] // not every test binary has so many
    pub fn afresh(&self) -> Self {
        let (device, queue) = (self.gpu.device(), self.gpu.queue());
        let capabilities = self.gpu.capabilities().clone();
        Self {
            name: self.name.clone(),
            gpu: Gpu::with_capabilities(device, queue, capabilities),
        }
    }

    /// SwiftShader computes and compiles many times slower than lavapipe.
    #[allow(dead_code)] // not every test binary asks
    pub fn is_slow(&self) -> bool {
        self.name.contains("SwiftShader")
    }

    /// lavapipe unrolls the kernels of this profile for seconds.
    #[allow(dead_code)] // not every test binary asks
    pub fn compiles_slowly(&self) -> bool {
        self.name.contains("no optional feature")
    }

    /// Whether a test of a whole model should run here: on SwiftShader, compiling the kernels of
    /// the slower profiles takes minutes, and tests of single kernels cover them.
    #[allow(dead_code)] // not every test binary has such tests
    pub fn runs_models(&self) -> bool {
        !self.name.contains("SwiftShader") || self.name.contains("all features")
    }

    /// Records with `record` into one pass, submits, and waits.
    #[allow(dead_code)] // not every test binary runs single kernels
    pub fn run(&self, record: impl FnOnce(&mut wgpu::ComputePass<'_>)) {
        let mut encoder = self
            .gpu
            .device()
            .create_command_encoder(&Default::default());
        record(&mut encoder.begin_compute_pass(&Default::default()));
        self.gpu.queue().submit([encoder.finish()]);
    }

    /// Contents of a buffer.
    pub fn read<T: bytemuck::Pod>(&self, buffer: &wgpu::Buffer) -> Vec<T> {
        pollster::block_on(self.gpu.read_buffer(buffer)).expect(&self.name)
    }
}
