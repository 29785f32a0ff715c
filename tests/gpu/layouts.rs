//! What Rust says of a kernel equals what naga reads from its WGSL, for every variant on every
//! capability profile. No GPU needed.

use std::collections::HashSet;

use naga::{AddressSpace, StorageAccess, TypeInner, proc::Layouter};
use sunfleck::{
    gpu::{Binding, Capabilities, Dialect, Kernel},
    variants,
};

fn profiles() -> Vec<Capabilities> {
    variants::profiles()
        .into_iter()
        .map(|(_, profile)| profile)
        .collect()
}

fn parse(name: &str, wgsl: &str) -> naga::Module {
    use naga::valid::Capabilities;
    let mut allowed = Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    if name.contains("cooperative") {
        allowed |= Capabilities::SHADER_FLOAT16 | Capabilities::COOPERATIVE_MATRIX;
    }
    let module = naga::front::wgsl::parse_str(wgsl)
        .unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(wgsl)));
    naga::valid::Validator::new(naga::valid::ValidationFlags::all(), allowed)
        .validate(&module)
        .unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(wgsl)));
    module
}

pub fn check(kernel: &Kernel) {
    let name = &kernel.name;
    // The loops as they are, and written out as real GPUs get them.
    parse(name, &kernel.unrolled_wgsl(Dialect::Naga));
    let module = parse(name, &kernel.wgsl(Dialect::Naga));
    let mut layouter = Layouter::default();
    layouter.update(module.to_ctx()).unwrap();

    let entry = &module.entry_points[0];
    assert_eq!(entry.name, "main", "{name}");
    assert_eq!(
        entry.workgroup_size, kernel.workgroup_size,
        "{name}: workgroup size"
    );

    let mut bound = vec![None; kernel.bindings.len()];
    let mut workgroup_bytes = 0;
    for (_, variable) in module.global_variables.iter() {
        match (variable.space, &variable.binding) {
            (AddressSpace::WorkGroup, _) => {
                workgroup_bytes += u64::from(layouter[variable.ty].size);
            }
            (space, Some(binding)) => {
                assert_eq!(binding.group, 0, "{name}");
                let kind = match space {
                    AddressSpace::Uniform => Binding::Uniform,
                    AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => {
                        Binding::Write
                    }
                    _ => Binding::Read,
                };
                bound[binding.binding as usize] = Some(kind);
                if binding.binding == 0 {
                    assert_eq!(kind, Binding::Uniform, "{name}");
                    check_params(kernel, &module, variable.ty);
                }
            }
            _ => {}
        }
    }
    let declared: Vec<_> = kernel.bindings.iter().copied().map(Some).collect();
    assert_eq!(bound, declared, "{name}: bindings");
    assert_eq!(
        workgroup_bytes, kernel.workgroup_bytes,
        "{name}: workgroup memory"
    );
    let storage = kernel
        .bindings
        .iter()
        .filter(|b| **b != Binding::Uniform)
        .count();
    assert!(
        storage <= 7,
        "{name}: {storage} storage buffers, and Metal takes the eighth"
    );
}

fn check_params(kernel: &Kernel, module: &naga::Module, ty: naga::Handle<naga::Type>) {
    let TypeInner::Struct { members, span } = &module.types[ty].inner else {
        panic!("{}: params are no struct", kernel.name);
    };
    let params = kernel.params;
    assert_eq!(
        module.types[ty].name.as_deref(),
        Some(params.name),
        "{}",
        kernel.name
    );
    let fields: Vec<_> = members
        .iter()
        .map(|member| (member.name.as_deref().unwrap_or(""), member.offset as usize))
        .collect();
    assert_eq!(fields, params.fields, "{}: {}", kernel.name, params.name);
    // A uniform buffer is rounded up to 16 bytes.
    assert!(
        params.size.next_multiple_of(16) >= *span as usize,
        "{}",
        kernel.name
    );
}

#[test]
fn every_variant_is_what_rust_says_it_is() {
    let mut seen = HashSet::new();
    for profile in profiles() {
        for kernel in variants::kernels(&profile) {
            if seen.insert(kernel.name.clone()) {
                check(&kernel);
            }
        }
    }
    assert!(seen.len() > 200, "only {} variants", seen.len());
}

#[test]
fn every_variant_fits_the_limits_that_webgpu_guarantees() {
    for profile in profiles() {
        for kernel in variants::kernels(&profile) {
            kernel.check(&profile).unwrap();
        }
    }
}

#[test]
fn a_name_stands_for_one_text() {
    let mut texts = std::collections::HashMap::new();
    for profile in profiles() {
        for kernel in variants::kernels(&profile) {
            let text = kernel.wgsl(Dialect::Naga);
            let first = texts
                .entry(kernel.name.clone())
                .or_insert_with(|| text.clone());
            assert_eq!(*first, text, "{}", kernel.name);
        }
    }
}

#[test]
fn subgroup_kernels_enable_them_for_tint_only() {
    let profile = &profiles()[0];
    for kernel in variants::kernels(profile) {
        let uses = kernel.wgsl(Dialect::Naga).contains("subgroup");
        assert!(
            !kernel.wgsl(Dialect::Naga).contains("enable subgroups"),
            "{}",
            kernel.name
        );
        let enabled = kernel.wgsl(Dialect::Tint).starts_with("enable subgroups;");
        assert!(enabled || !uses || !kernel.wgsl(Dialect::Naga).contains("subgroupBroadcast("));
    }
}
