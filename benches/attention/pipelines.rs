//! Pipelines of the benchmark's own kernels: peaks and rival.

use std::borrow::Cow;

use sunfleck::{
    gpu::Gpu,
    wgpu::{self, util::DeviceExt as _},
};

/// Compiles `wgsl` without the compiler's run-time checks, as the library compiles its own kernels: with
/// them the rival would be handicapped and the peaks too low.
pub fn compile(gpu: &Gpu, label: &str, wgsl: &str) -> wgpu::ComputePipeline {
    let device = gpu.device();
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(label),
        source: wgpu::ShaderSource::Wgsl(Cow::Borrowed(wgsl)),
    };
    // SAFETY: the text comes from this benchmark only. Its loops are bounded by constants and
    // parameters that the benchmark sets, and its indices stay inside the buffers that it makes
    // from the same numbers.
    #[allow(unsafe_code)]
    let module = unsafe {
        device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
    };
    device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(label),
        layout: None,
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            // Each word of workgroup memory is written before it is read.
            zero_initialize_workgroup_memory: false,
            ..Default::default()
        },
        cache: None,
    })
}

/// Binds whole buffers to group 0 in order.
pub fn bind(
    gpu: &Gpu,
    pipeline: &wgpu::ComputePipeline,
    buffers: &[&wgpu::Buffer],
) -> wgpu::BindGroup {
    let entries: Vec<_> = (0..)
        .zip(buffers)
        .map(|(binding, buffer)| wgpu::BindGroupEntry {
            binding,
            resource: buffer.as_entire_binding(),
        })
        .collect();
    gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &entries,
    })
}

/// A uniform buffer of these words.
pub fn uniform(gpu: &Gpu, words: &[u32]) -> wgpu::Buffer {
    gpu.device()
        .create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: None,
            contents: bytemuck::cast_slice(words),
            usage: wgpu::BufferUsages::UNIFORM,
        })
}
