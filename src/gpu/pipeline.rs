//! Compiled kernels, each made once per device.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use wgpu::{
    BindGroupLayout, BindGroupLayoutDescriptor, BindGroupLayoutEntry, BindingType,
    BufferBindingType, ComputePass, ComputePipeline, ComputePipelineDescriptor, Device,
    PipelineCompilationOptions, PipelineLayoutDescriptor, ShaderStages,
};

use super::{
    Binding, BufferView, Gpu, GpuError, Kernel, Limit,
    ahead::Started,
    limits, module,
    scope::{self, Scopes},
};

/// A compiled kernel with the layout of its bindings.
#[derive(Debug)]
pub struct Pipeline {
    /// Name of the kernel variant.
    pub name: String,
    compute: OnceLock<ComputePipeline>, // empty while it is compiled ahead
    missing: AtomicBool,                // where it was to run all the same
    layout: BindGroupLayout,
    bindings: Vec<Binding>,
}

impl Pipeline {
    /// `kernel`, not compiled yet.
    pub(super) fn of(device: &Device, kernel: &Kernel) -> Self {
        let entries: Vec<_> = (0..).zip(&kernel.bindings).map(layout_entry).collect();
        Self {
            name: kernel.name.clone(),
            compute: OnceLock::new(),
            missing: AtomicBool::new(false),
            layout: device.create_bind_group_layout(&BindGroupLayoutDescriptor {
                label: Some(&kernel.name),
                entries: &entries,
            }),
            bindings: kernel.bindings.clone(),
        }
    }

    /// Makes `pass` run this kernel, and says whether it can: one that is compiled ahead may not be there yet.
    pub(crate) fn set(&self, pass: &mut ComputePass<'_>) -> bool {
        match self.compute.get() {
            Some(compute) => pass.set_pipeline(compute),
            None => self.missing.store(true, Ordering::Relaxed),
        }
        self.compute.get().is_some()
    }

    /// Whether it was to run before it was compiled.
    pub(super) fn was_missing(&self) -> bool {
        self.missing.load(Ordering::Relaxed)
    }
}

/// Kernels already compiled, by name.
#[derive(Debug, Default)]
pub(super) struct PipelineCache(Mutex<HashMap<String, Arc<Pipeline>>>);

impl Gpu {
    /// The compiled form of `kernel`; compiles it on first use.
    ///
    /// # Errors
    /// [`GpuError::LimitExceeded`] before anything is compiled, [`GpuError::Compile`] with the
    /// variant's name when the device refuses it.
    pub async fn pipeline(&self, kernel: &Kernel) -> Result<Arc<Pipeline>, GpuError> {
        if let Some(found) = self.cached(&kernel.name) {
            return Ok(found);
        }
        kernel.check(self.capabilities())?;
        if let Some(ahead) = self.ahead.as_ref().filter(|ahead| ahead.is_open()) {
            return Ok(ahead.ask(self, kernel, self.soon));
        }
        let pipeline = Arc::new(Pipeline::of(self.device(), kernel));
        let compute = self.start(kernel, &pipeline).await?;
        Ok(self.keep(pipeline, compute))
    }

    /// Starts to compile `kernel`, whose bindings `pipeline` has.
    pub(super) fn start(&self, kernel: &Kernel, pipeline: &Pipeline) -> Started {
        let device = self.device();
        // Metal's and DX12's compilers report internal errors.
        let scopes = Scopes::open(device);
        let wgsl = kernel.compiled_wgsl(self.capabilities());
        let checked = self.capabilities().checked_shaders;
        let shader = module::create(device, &kernel.name, &wgsl, checked);
        let pipeline_layout = device.create_pipeline_layout(&PipelineLayoutDescriptor {
            label: Some(&kernel.name),
            bind_group_layouts: &[Some(&pipeline.layout)],
            immediate_size: 0,
        });
        let (on, name) = (device.clone(), kernel.name.clone());
        let make = move || {
            on.create_compute_pipeline(&ComputePipelineDescriptor {
                label: Some(&name),
                layout: Some(&pipeline_layout),
                module: &shader,
                entry_point: Some("main"),
                compilation_options: PipelineCompilationOptions {
                    // Every kernel writes a word of workgroup memory before it reads it.
                    zero_initialize_workgroup_memory: checked,
                    ..Default::default()
                },
                cache: None,
            })
        };
        let compute = match self.compiler() {
            Some(compiler) => Err(compiler.compile(Box::new(make))),
            None => Ok(make()),
        };
        let told = scopes.close();
        let refused = {
            let kernel = kernel.name.clone();
            move |message: String| GpuError::Compile { kernel, message }
        };
        Box::pin(async move {
            // The device says more about a refusal than the compiler.
            let error = told.await;
            let compute = match compute {
                Ok(compute) => Ok(compute),
                Err(compiling) => compiling.await,
            };
            match (error, compute) {
                (Some(error), _) => Err(refused(error.to_string())),
                (None, Err(message)) => Err(refused(message)),
                (None, Ok(compute)) => Ok(compute),
            }
        })
    }

    /// Keeps a kernel that is compiled, or the same one where that came before.
    pub(super) fn keep(&self, pipeline: Arc<Pipeline>, compute: ComputePipeline) -> Arc<Pipeline> {
        // Whoever bound it while it was compiled has this very one.
        let _ = pipeline.compute.set(compute);
        let mut cache = self
            .pipelines()
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        cache
            .entry(pipeline.name.clone())
            .or_insert(pipeline)
            .clone()
    }

    fn cached(&self, name: &str) -> Option<Arc<Pipeline>> {
        let cache = self
            .pipelines()
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        cache.get(name).cloned()
    }

    /// Binds `views`, named for error messages, to the bindings of `pipeline`.
    ///
    /// # Errors
    /// [`GpuError::View`] for a view that leaves its buffer or has a bad alignment,
    /// [`GpuError::Alias`] and [`GpuError::SharedBuffer`] for views that WebGPU refuses in one
    /// dispatch, [`GpuError::LimitExceeded`] for a view over the binding limit, [`GpuError::Device`] for a buffer
    /// that was destroyed or belongs to another device (natively; a browser reports it to the page).
    pub fn bind(
        &self,
        pipeline: &Pipeline,
        views: &[(&'static str, BufferView<'_>)],
    ) -> Result<wgpu::BindGroup, GpuError> {
        debug_assert_eq!(views.len(), pipeline.bindings.len(), "{}", pipeline.name);
        let device_limits = &self.capabilities().limits;
        for ((name, view), binding) in views.iter().zip(&pipeline.bindings) {
            view.check(name, *binding, device_limits)?;
            if *binding != Binding::Uniform {
                let what = format!("`{name}` of kernel `{}`", pipeline.name);
                limits::check(device_limits, &what, Limit::StorageBinding, view.size)?;
            }
        }
        for (i, (name, view)) in views.iter().enumerate() {
            for (j, (other_name, other)) in views.iter().enumerate() {
                if i == j || pipeline.bindings[i] != Binding::Write || view.buffer != other.buffer {
                    continue;
                }
                if view.overlaps(other) {
                    return Err(GpuError::Alias {
                        written: name,
                        other: other_name,
                    });
                }
                if pipeline.bindings[j] != Binding::Write {
                    return Err(GpuError::SharedBuffer {
                        written: name,
                        read: other_name,
                    });
                }
            }
        }
        let entries: Vec<_> = (0..)
            .zip(views)
            .map(|(binding, (_, view))| wgpu::BindGroupEntry {
                binding,
                resource: view.resource(),
            })
            .collect();
        // A buffer that was destroyed, or is of another device.
        let (group, error) = scope::told(self.device(), || {
            self.device().create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(&pipeline.name),
                layout: &pipeline.layout,
                entries: &entries,
            })
        });
        match error {
            None => Ok(group),
            Some(error) => Err(GpuError::Device {
                message: error.to_string(),
            }),
        }
    }
}

fn layout_entry((binding, kind): (u32, &Binding)) -> BindGroupLayoutEntry {
    let ty = match kind {
        Binding::Uniform => BufferBindingType::Uniform,
        Binding::Read => BufferBindingType::Storage { read_only: true },
        Binding::Write => BufferBindingType::Storage { read_only: false },
    };
    BindGroupLayoutEntry {
        binding,
        visibility: ShaderStages::COMPUTE,
        ty: BindingType::Buffer {
            ty,
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    }
}
