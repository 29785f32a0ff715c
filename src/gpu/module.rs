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
    // every parameter a plan accepts; divisors are constants or checked to be non-zero.
    // Attention clamps the lengths it reads from GPU buffers to the capacity in its parameters.
    // The operators do not clamp a step's rows: there the caller's count must fit its buffers,
    // and where it does not, what holds is the robust buffer access that wgpu asks the driver
    // for. The tests run the kernels that hardware gets with the checks on as well.
    #[allow(unsafe_code)]
    unsafe {
        device.create_shader_module_trusted(descriptor, ShaderRuntimeChecks::unchecked())
    }
}
