//! What the caller's device can do, read once when a [`Gpu`](super::Gpu) is made.

use wgpu::{AdapterInfo, Backend, DeviceType, Features, Limits};

/// Families of adapters that reward different tile shapes.
///
/// The class only picks defaults for speed. A kernel is right on every class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AdapterClass {
    /// A CPU that runs a subgroup as one SIMD vector (lavapipe, SwiftShader, WARP): a load costs
    /// as much for one address as for many, and barriers switch coroutines.
    Software,
    /// A discrete or integrated GPU.
    Hardware,
    /// Nothing is known, as in most browsers.
    Unknown,
}

/// Sizes a subgroup may have on this adapter, in invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubgroupSizes {
    /// The smallest size.
    pub min: u32,
    /// The largest size.
    pub max: u32,
}

impl SubgroupSizes {
    /// The size, where the adapter has only one.
    pub fn fixed(self) -> Option<u32> {
        (self.min == self.max).then_some(self.min)
    }
}

/// Which compiler reads the WGSL: they disagree on `enable` lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// naga, inside wgpu on native targets and in Firefox: subgroup built-ins work with no
    /// `enable subgroups;`, and naga 30 refuses that line.
    Naga,
    /// Tint, in Chromium and Dawn: subgroup built-ins need `enable subgroups;`.
    Tint,
}

/// What kernels are allowed to use on a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Capabilities {
    /// The device's limits.
    pub limits: Limits,
    /// `enable f16;` is allowed.
    pub shader_f16: bool,
    /// Subgroup built-ins are allowed, with these sizes.
    pub subgroups: Option<SubgroupSizes>,
    /// Cooperative matrices of 16 x 16 x 16 are allowed, of f16 with f32 sums, with subgroups of
    /// 32 invocations. See [`Capabilities::with_matrices_of`].
    pub cooperative_matrices: bool,
    /// Queries of GPU time are allowed.
    pub timestamps: bool,
    /// The adapter family.
    pub class: AdapterClass,
    /// The compiler of the shaders.
    pub dialect: Dialect,
    /// Keep the compiler's run-time checks of loops, indices and divisions in the kernels.
    ///
    /// Off by default: every index of a kernel is proven in range, and the checks make some
    /// kernels many times slower. Switch them on to rule them out while looking for a fault.
    pub checked_shaders: bool,
    /// Write out the inner loops of the large kernels before they are compiled.
    ///
    /// On by default except on software adapters: a GPU runs them up to 2.5 times as fast then (an
    /// NVIDIA H200), but compiling takes several times as long.
    pub unrolled_shaders: bool,
}

impl Capabilities {
    /// Reads the capabilities of `device`: what it was *created* with, not what its adapter could
    /// have offered.
    pub fn of(device: &wgpu::Device) -> Self {
        let features = device.features();
        let info = device.adapter_info();
        let subgroups = features
            .contains(Features::SUBGROUP)
            .then_some(SubgroupSizes {
                min: info.subgroup_min_size,
                max: info.subgroup_max_size,
            });
        Self {
            limits: device.limits(),
            shader_f16: features.contains(Features::SHADER_F16),
            subgroups,
            cooperative_matrices: false,
            timestamps: features.contains(Features::TIMESTAMP_QUERY),
            class: class_of(&info),
            dialect: Dialect::Naga,
            checked_shaders: false,
            unrolled_shaders: class_of(&info) != AdapterClass::Software,
        }
    }

    /// Allows cooperative matrices where `adapter`, which the device was made from, lists those
    /// that kernels use and the device has the features `EXPERIMENTAL_COOPERATIVE_MATRIX`,
    /// `SHADER_F16` and `SUBGROUP`. A device doesn't know the list, hence the adapter.
    pub fn with_matrices_of(mut self, device: &wgpu::Device, adapter: &wgpu::Adapter) -> Self {
        let f16 = wgpu::wgt::CooperativeScalarType::F16;
        let f32 = wgpu::wgt::CooperativeScalarType::F32;
        let listed = adapter
            .cooperative_matrix_properties()
            .iter()
            .any(|matrix| {
                [matrix.m_size, matrix.n_size, matrix.k_size] == [16; 3]
                    && (matrix.ab_type, matrix.cr_type) == (f16, f32)
            });
        self.cooperative_matrices = listed
            && self.shader_f16
            && self.subgroups.and_then(SubgroupSizes::fixed) == Some(32)
            && (device.features()).contains(Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
        self
    }

    /// The same adapter with no optional feature and the limits that WebGPU guarantees
    /// everywhere: the floor on which every kernel must run.
    pub fn floor(mut self) -> Self {
        self.limits = Limits::default().or_worse_values_from(&self.limits);
        self.shader_f16 = false;
        self.subgroups = None;
        self.cooperative_matrices = false;
        self
    }

    /// The subgroup width, where it is known to be the same for every dispatch and one over which
    /// a kernel may spread loads (see `shaders/ops/spread8.wgsl`).
    pub(crate) fn spread_width(&self) -> Option<u32> {
        self.subgroups
            .and_then(SubgroupSizes::fixed)
            .filter(|width| matches!(width, 4 | 8))
    }
}

fn class_of(info: &AdapterInfo) -> AdapterClass {
    match (info.backend, info.device_type) {
        (_, DeviceType::Cpu) => AdapterClass::Software,
        (Backend::BrowserWebGpu, _) => AdapterClass::Unknown,
        (_, DeviceType::DiscreteGpu | DeviceType::IntegratedGpu | DeviceType::VirtualGpu) => {
            AdapterClass::Hardware
        }
        _ => AdapterClass::Unknown,
    }
}
