//! The translations that wgpu makes of a kernel before a driver sees it, with the options that wgpu gives naga.

use anyhow::{Context, Result, anyhow};
use naga::{
    AddressSpace, Module, ResourceBinding, ShaderStage,
    back::{hlsl, msl, spv},
    proc::{BoundsCheckPolicies, BoundsCheckPolicy},
    valid::{Capabilities, ModuleInfo, ValidationFlags, Validator},
};

/// All kernels have this entry point.
pub const ENTRY_POINT: &str = "main";

/// What a kernel's text asks of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Subgroup built-ins.
    pub subgroups: bool,
    /// The type `f16`.
    pub f16: bool,
    /// Cooperative matrices.
    pub matrices: bool,
}

impl Needs {
    /// Reads them from a text for naga, which enables all but subgroups by a line.
    pub fn of(wgsl: &str) -> Needs {
        Needs {
            subgroups: wgsl.contains("subgroup"),
            f16: wgsl.contains("enable f16;"),
            matrices: wgsl.contains("enable wgpu_cooperative_matrix;"),
        }
    }

    fn capabilities(self) -> Capabilities {
        let mut allowed = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
        allowed.set(Capabilities::SUBGROUP, self.subgroups);
        allowed.set(Capabilities::SHADER_FLOAT16, self.f16);
        allowed.set(Capabilities::COOPERATIVE_MATRIX, self.matrices);
        allowed
    }
}

/// A kernel that naga has read and found valid.
pub struct Valid {
    module: Module,
    info: ModuleInfo,
    /// What it asks of a device.
    pub needs: Needs,
}

impl Valid {
    /// Parses and validates, with no capability but those that the text names.
    ///
    /// # Errors
    /// naga's message, with the place in the text.
    pub fn new(wgsl: &str) -> Result<Valid> {
        let needs = Needs::of(wgsl);
        let module = naga::front::wgsl::parse_str(wgsl)
            .map_err(|error| anyhow!(error.emit_to_string(wgsl)))?;
        let info = Validator::new(ValidationFlags::all(), needs.capabilities())
            .validate(&module)
            .map_err(|error| anyhow!(error.emit_to_string(wgsl)))?;
        Ok(Valid {
            module,
            info,
            needs,
        })
    }

    /// SPIR-V 1.4 as bytes. wgpu writes 1.3 for Vulkan 1.1 and up to 1.6 for later ones; 1.4 is where the validator can be told
    /// of naga's layouts (`spirv_val`).
    ///
    /// # Errors
    /// naga's message.
    pub fn spirv(&self, checked: bool) -> Result<Vec<u8>> {
        let options = spv::Options {
            lang_version: (1, 4),
            flags: spv::WriterFlags::empty(),
            bounds_check_policies: policies(checked),
            zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::Polyfill,
            force_loop_bounding: checked,
            emit_int_div_checks: checked,
            ..spv::Options::default()
        };
        let entry = spv::PipelineOptions {
            shader_stage: ShaderStage::Compute,
            entry_point: ENTRY_POINT.into(),
        };
        let words = spv::write_vec(&self.module, &self.info, &options, Some(&entry))
            .context("naga does not write it as SPIR-V")?;
        Ok(words.into_iter().flat_map(u32::to_le_bytes).collect())
    }

    /// Metal Shading Language 2.4. Buffers take the slots of their bindings, lengths of runtime-sized arrays the one
    /// behind them, as in wgpu.
    ///
    /// # Errors
    /// naga's message.
    pub fn msl(&self, checked: bool) -> Result<String> {
        let mut entry = msl::EntryPointResources::default();
        for (binding, writable) in self.bindings() {
            let target = msl::BindTarget {
                buffer: Some(u8::try_from(binding.binding)?),
                mutable: writable,
                ..Default::default()
            };
            entry.resources.insert(binding, target);
        }
        entry.sizes_buffer = Some(u8::try_from(entry.resources.len())?);
        let options = msl::Options {
            lang_version: (2, 4),
            per_entry_point_map: [(ENTRY_POINT.to_owned(), entry)].into_iter().collect(),
            fake_missing_bindings: false,
            bounds_check_policies: policies(checked),
            zero_initialize_workgroup_memory: true,
            force_loop_bounding: checked,
            emit_int_div_checks: checked,
            ..msl::Options::default()
        };
        let pipeline = msl::PipelineOptions {
            entry_point: Some((ShaderStage::Compute, ENTRY_POINT.into())),
            ..msl::PipelineOptions::default()
        };
        let (text, info) = msl::write_string(&self.module, &self.info, &options, &pipeline)
            .context("naga does not write it as MSL")?;
        for name in info.entry_point_names {
            name.map_err(|error| anyhow!("naga refuses its bindings for MSL: {error}"))?;
        }
        Ok(text)
    }

    /// HLSL for a shader model, and the name that the entry point has there.
    ///
    /// # Errors
    /// naga's message.
    pub fn hlsl(&self, model: hlsl::ShaderModel, checked: bool) -> Result<(String, String)> {
        // wgpu counts registers of each kind from 0 (space 0, since all bindings are in group 0).
        let mut registers = [0, 0, 0];
        let mut binding_map = hlsl::BindingMap::default();
        for (binding, variable) in self.resources() {
            let kind = match variable.space {
                AddressSpace::Uniform => 0,
                AddressSpace::Storage { access }
                    if !access.contains(naga::StorageAccess::STORE) =>
                {
                    1
                }
                _ => 2,
            };
            let target = hlsl::BindTarget {
                register: registers[kind],
                restrict_indexing: checked,
                ..hlsl::BindTarget::default()
            };
            registers[kind] += 1;
            binding_map.insert(binding, target);
        }
        let options = hlsl::Options {
            shader_model: model,
            binding_map,
            fake_missing_bindings: false,
            zero_initialize_workgroup_memory: true,
            restrict_indexing: checked,
            force_loop_bounding: checked,
            ..hlsl::Options::default()
        };
        let pipeline = hlsl::PipelineOptions {
            entry_point: Some((ShaderStage::Compute, ENTRY_POINT.into())),
        };
        let mut text = String::new();
        let mut writer = hlsl::Writer::new(&mut text, &options, &pipeline);
        let mut reflection = writer
            .write(&self.module, &self.info, None)
            .context("naga does not write it as HLSL")?;
        let name = reflection
            .entry_point_names
            .pop()
            .context("naga wrote no entry point")?
            .map_err(|error| anyhow!("naga refuses its bindings for HLSL: {error}"))?;
        Ok((text, name))
    }

    fn resources(&self) -> impl Iterator<Item = (ResourceBinding, &naga::GlobalVariable)> {
        let variables = self.module.global_variables.iter();
        variables.filter_map(|(_, variable)| Some((variable.binding?, variable)))
    }

    fn bindings(&self) -> impl Iterator<Item = (ResourceBinding, bool)> {
        self.resources().map(|(binding, variable)| {
            let writable = matches!(variable.space, AddressSpace::Storage { access }
                if access.contains(naga::StorageAccess::STORE));
            (binding, writable)
        })
    }
}

fn policies(checked: bool) -> BoundsCheckPolicies {
    let policy = if checked {
        BoundsCheckPolicy::Restrict
    } else {
        BoundsCheckPolicy::Unchecked
    };
    BoundsCheckPolicies {
        index: policy,
        buffer: policy,
        image_load: policy,
        binding_array: BoundsCheckPolicy::Unchecked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: &str = "@group(0) @binding(0) var<uniform> scale: vec4<f32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < arrayLength(&x) { y[id.x] = scale.x * x[id.x]; }
}";

    #[test]
    fn a_kernel_has_every_translation() {
        let kernel = Valid::new(KERNEL).unwrap();
        assert_eq!(kernel.needs, Needs::default());
        let magic = 0x0723_0203_u32.to_le_bytes();
        assert_eq!(kernel.spirv(false).unwrap()[..4], magic);
        assert!(kernel.msl(true).unwrap().contains("[[buffer(3)]]"));
        let (text, entry) = kernel.hlsl(hlsl::ShaderModel::V6_0, false).unwrap();
        assert_eq!(entry, "main");
        assert!(text.contains(": register(t0)") && text.contains(": register(u0)"));
    }

    #[test]
    fn what_a_text_does_not_enable_is_refused() {
        let f16 = KERNEL.replace("scale.x * x[id.x]", "f32(f16(x[id.x]))");
        assert!(Valid::new(&f16).is_err());
        assert!(Valid::new(&format!("enable f16;\n{f16}")).is_ok());
        let broken = KERNEL.replace("y[id.x] =", "y[id.x] +");
        let message = Valid::new(&broken).err().unwrap().to_string();
        assert!(message.contains("expected"), "{message}");
    }
}
