//! Devices that are lost and buffers that are destroyed: errors, never a panic.

use sunfleck::{
    attention::{AttentionError, AttentionIo, AttentionProblem},
    gpu::{Gpu, GpuError},
    wgpu,
};

use crate::adapters;

/// A device of its own on the first adapter under test, with wgpu's handler of uncaptured errors, which panics.
fn device() -> (wgpu::Device, wgpu::Queue) {
    let tested = adapters::all()[0].gpu.device().adapter_info().name;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    let adapter = adapters
        .into_iter()
        .find(|adapter| adapter.get_info().name == tested)
        .unwrap();
    pollster::block_on(adapter.request_device(&Default::default())).unwrap()
}

#[test]
fn a_destroyed_buffer_is_a_typed_error() {
    let (device, queue) = device();
    let gpu = Gpu::new(&device, &queue);
    let problem = AttentionProblem::new(1, 1, 4, 1, 8);
    let plan = gpu.plan_attention(&problem).unwrap();
    let prepared = pollster::block_on(plan.prepare()).unwrap();
    let buffer = |name| gpu.storage(name, 8 * 4 * 4).unwrap();
    let (query, key, value) = (buffer("query"), buffer("key"), buffer("value"));
    let (output, lengths) = (buffer("output"), buffer("lengths"));
    let io = AttentionIo {
        query: (&query).into(),
        key: (&key).into(),
        value: (&value).into(),
        output: (&output).into(),
        lengths: (&lengths).into(),
        lse: None,
        bias: None,
        tree: None,
        pages: None,
    };
    let workspace = prepared.workspace().unwrap();
    prepared.bind(&workspace, &io).unwrap();
    key.destroy();
    let error = prepared.bind(&workspace, &io).unwrap_err();
    assert!(
        matches!(error, AttentionError::Gpu(GpuError::Device { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("destroyed"), "{error}");
}

#[test]
fn nothing_panics_on_a_lost_device() {
    let (device, queue) = device();
    let gpu = Gpu::new(&device, &queue);
    let problem = AttentionProblem::new(1, 1, 4, 1, 8);
    let plan = gpu.plan_attention(&problem).unwrap();
    let prepared = pollster::block_on(plan.prepare()).unwrap();
    let buffer = gpu.storage("all", 1024).unwrap();
    let output = gpu.storage("output", 1024).unwrap();
    let workspace = prepared.workspace().unwrap();
    device.destroy();
    let _ = device.poll(wgpu::PollType::wait_indefinitely());
    let io = AttentionIo {
        query: (&buffer).into(),
        key: (&buffer).into(),
        value: (&buffer).into(),
        output: (&output).into(),
        lengths: (&buffer).into(),
        lse: None,
        bias: None,
        tree: None,
        pages: None,
    };
    let _ = prepared.bind(&workspace, &io);
    let _ = prepared.workspace();
    let _ = gpu.storage_with("values", &[1.0f32; 4]);
    let other = gpu
        .plan_attention(&AttentionProblem::new(2, 1, 8, 1, 8))
        .unwrap();
    let _ = pollster::block_on(other.prepare());
    let read: Result<Vec<f32>, _> = pollster::block_on(gpu.read_buffer(&buffer));
    assert!(read.is_err(), "{read:?}");
}

#[test]
fn a_buffer_that_cannot_be_read_back_is_a_typed_error() {
    let (device, queue) = device();
    let gpu = Gpu::new(&device, &queue);
    for (size, usage) in [
        (16, wgpu::BufferUsages::STORAGE),
        (6, wgpu::BufferUsages::COPY_SRC),
    ] {
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size,
            usage,
            mapped_at_creation: false,
        });
        let read: Result<Vec<u8>, _> = pollster::block_on(gpu.read_buffer(&buffer));
        assert!(matches!(read, Err(GpuError::View { .. })), "{read:?}");
    }
    let huge = gpu.storage("huge", u64::MAX);
    assert!(matches!(huge, Err(GpuError::LimitExceeded { .. })));
}
