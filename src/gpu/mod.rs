//! The caller's device: its capabilities, compiled kernels, buffers and views.
//!
//! The caller owns the device, the queue, the buffers and the passes. This layer never creates a
//! device; [`Gpu`] only holds handles to the caller's and the kernels compiled for it.
//!
//! ```
//! use sunfleck::{gpu::Gpu, wgpu};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let instance = wgpu::Instance::default();
//! let adapter = instance.request_adapter(&Default::default()).await?;
//! let (device, queue) = adapter.request_device(&Default::default()).await?;
//! let gpu = Gpu::new(&device, &queue);
//! let buffer = gpu.storage_with("three", &[1.0f32, 2.0, 3.0])?;
//! assert_eq!(gpu.read_buffer::<f32>(&buffer).await?, [1.0, 2.0, 3.0]);
//! # Ok(())
//! # }
//! # pollster::block_on(example()).unwrap();
//! ```

mod ahead;
#[cfg(any(test, target_arch = "wasm32"))]
pub(crate) mod bare;
mod buffer;
mod capabilities;
mod error;
mod kernel;
mod layout;
mod limits;
mod module;
mod pipeline;
mod readback;
mod scope;
mod unroll;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

pub use ahead::{Compiler, Compiling, MakePipeline};
pub use buffer::BufferView;
pub use capabilities::{AdapterClass, Capabilities, Dialect, SubgroupSizes};
pub use error::GpuError;
pub(crate) use kernel::shader;
pub use kernel::{Binding, Kernel, Source};
pub use layout::StructLayout;
pub(crate) use layout::shared_struct;
pub use limits::Limit;
pub(crate) use limits::check as check_limit;
pub use pipeline::Pipeline;
pub use readback::ReadBack;

/// A device with the kernels compiled for it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gpu {
    inner: Arc<Inner>,
    ahead: Option<Arc<ahead::Ahead>>, // of a handle that does not wait for kernels
    soon: bool,                       // and what it is asked for is wanted soon
}

#[derive(Debug)]
struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    capabilities: Capabilities,
    compiler: Option<Arc<dyn Compiler>>, // in place of the device's own
    pipelines: pipeline::PipelineCache,
    allocated: AtomicU64,
    matrices_verdict: OnceLock<Result<(), String>>,
}

impl Gpu {
    /// Takes handles to the caller's device and queue and reads the device's capabilities.
    pub fn new(device: &wgpu::Device, queue: &wgpu::Queue) -> Self {
        Self::with_capabilities(device, queue, Capabilities::of(device))
    }

    /// As [`Gpu::new`] with capabilities of the caller's choice: fewer than the device has, to
    /// see what runs elsewhere, or checked shaders.
    pub fn with_capabilities(
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        capabilities: Capabilities,
    ) -> Self {
        Self::made(device, queue, capabilities, None)
    }

    fn made(
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        capabilities: Capabilities,
        compiler: Option<Arc<dyn Compiler>>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                device: device.clone(),
                queue: queue.clone(),
                capabilities,
                compiler,
                pipelines: pipeline::PipelineCache::default(),
                allocated: AtomicU64::new(0),
                matrices_verdict: OnceLock::new(),
            }),
            ahead: None,
            soon: true,
        }
    }

    /// The caller's device.
    pub fn device(&self) -> &wgpu::Device {
        &self.inner.device
    }

    /// The caller's queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.inner.queue
    }

    /// What the kernels may use.
    pub fn capabilities(&self) -> &Capabilities {
        &self.inner.capabilities
    }

    /// Bytes of all storage and uniform buffers that were ever made through this `Gpu`, freed ones included.
    pub fn allocated_bytes(&self) -> u64 {
        self.inner.allocated.load(Ordering::Relaxed)
    }

    fn count_allocation(&self, bytes: u64) {
        self.inner.allocated.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether kernels on cooperative matrices were found right and fast here, once that was tried.
    pub(crate) fn matrices_verdict(&self) -> &OnceLock<Result<(), String>> {
        &self.inner.matrices_verdict
    }

    fn compiler(&self) -> Option<&Arc<dyn Compiler>> {
        self.inner.compiler.as_ref()
    }

    fn pipelines(&self) -> &pipeline::PipelineCache {
        &self.inner.pipelines
    }
}
