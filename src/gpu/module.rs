//! The one place where a shader module is made, and the only `unsafe` of the crate.

use std::borrow::Cow;

use wgpu::{Device, ShaderModule, ShaderModuleDescriptor, ShaderRuntimeChecks, ShaderSource};

/// Makes a module from `wgsl`, with or without the compiler's run-time checks.
pub(super) fn create(device: &Device, label: &str, wgsl: &str, checked: bool) -> ShaderModule {
    let descriptor = ShaderModuleDescriptor {
        label: Some(label),
        source: ShaderSource::Wgsl(Cow::Borrowed(wgsl)),
    };
    if checked {
        return device.create_shader_module(descriptor);
    }
    // SAFETY: the text comes from this crate's own files only. Their loops are bounded by kernel
    // constants or by parameters that the plans check; indices stay inside the bindings for
    // every parameter a plan accepts, and lengths read from GPU buffers are clamped to the
    // capacity in the parameters; divisors are constants or checked to be non-zero. The test
    // suite also runs every kernel with the checks on and compares the bits.
    #[allow(unsafe_code)]
    unsafe {
        device.create_shader_module_trusted(descriptor, ShaderRuntimeChecks::unchecked())
    }
}
