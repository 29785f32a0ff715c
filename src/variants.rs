//! Every kernel variant that the library can emit, for tests, portability checks and docs.

use crate::{
    attention, cache,
    gpu::{AdapterClass, Capabilities, Dialect, Kernel, SubgroupSizes},
    ops, tree, verify,
};

/// The variants on a device with these capabilities: all of the operators, and of attention those
/// for a spread of head sizes with every storage type and mask. Head sizes are constants of a
/// kernel, so there are as many variants as multiples of 4; these stand for the rest.
pub fn kernels(capabilities: &Capabilities) -> Vec<Kernel> {
    let mut kernels = ops::variants(capabilities);
    kernels.extend(attention::variants(capabilities));
    kernels.extend(cache::variants());
    kernels.extend(tree::variants(capabilities));
    kernels.extend(verify::variants(capabilities));
    #[cfg(feature = "generate")]
    kernels.extend(crate::draft::variants());
    kernels
}

/// Capability profiles with their names, none below what WebGPU guarantees: one for each way in which the library's
/// choice of kernels can turn out. Subgroup sizes and limits are those that drivers report.
pub fn profiles() -> Vec<(&'static str, Capabilities)> {
    let profile = |class, subgroup: Option<(u32, u32)>| Capabilities {
        limits: wgpu::Limits::default(),
        shader_f16: false,
        subgroups: subgroup.map(|(min, max)| SubgroupSizes { min, max }),
        cooperative_matrices: false,
        timestamps: false,
        class,
        dialect: Dialect::Naga,
        checked_shaders: false,
        unrolled_shaders: class == AdapterClass::Hardware,
    };
    let with_workgroup_memory = |kib: u32| wgpu::Limits {
        max_compute_workgroup_storage_size: kib << 10,
        ..wgpu::Limits::default()
    };
    vec![
        ("lavapipe", profile(AdapterClass::Software, Some((8, 8)))),
        ("SwiftShader", profile(AdapterClass::Software, Some((4, 4)))),
        ("software floor", profile(AdapterClass::Software, None)),
        (
            "hardware, subgroups of 32",
            profile(AdapterClass::Hardware, Some((32, 32))),
        ),
        (
            "hardware, cooperative matrices",
            Capabilities {
                limits: with_workgroup_memory(48),
                shader_f16: true,
                cooperative_matrices: true,
                ..profile(AdapterClass::Hardware, Some((32, 32)))
            },
        ),
        (
            "AMD, subgroups of 32 or 64",
            Capabilities {
                limits: with_workgroup_memory(64),
                shader_f16: true,
                ..profile(AdapterClass::Hardware, Some((32, 64)))
            },
        ),
        (
            "Apple",
            Capabilities {
                limits: with_workgroup_memory(32),
                shader_f16: true,
                ..profile(AdapterClass::Hardware, Some((32, 32)))
            },
        ),
        (
            "Adreno or Mali",
            profile(AdapterClass::Hardware, Some((16, 128))),
        ),
        ("default WebGPU", profile(AdapterClass::Unknown, None)),
        (
            "browser with subgroups",
            Capabilities {
                dialect: Dialect::Tint,
                ..profile(AdapterClass::Unknown, Some((4, 128)))
            },
        ),
    ]
}
