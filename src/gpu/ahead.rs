//! Kernels that compile while other work goes on.

use std::{
    fmt::Debug,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
};

use wgpu::{ComputePipeline, WasmNotSendSync};

use super::{Gpu, GpuError, Kernel, Pipeline};

/// Compiles kernels away from the thread that asks for them, where wgpu does not: a browser's
/// `createComputePipelineAsync`. Given to [`Gpu::with_compiler`].
pub trait Compiler: Debug + WasmNotSendSync {
    /// Starts compiling what `make` describes to the device. `make` blocks until its pipeline is compiled, and
    /// describes the same one each time it is called. The future gives the pipeline, or the compiler's message.
    fn compile(&self, make: MakePipeline) -> Compiling;
}

/// Describes a pipeline to the device.
#[cfg(not(target_arch = "wasm32"))]
pub type MakePipeline = Box<dyn Fn() -> ComputePipeline + Send + Sync>;
/// Describes a pipeline to the device.
#[cfg(target_arch = "wasm32")]
pub type MakePipeline = Box<dyn Fn() -> ComputePipeline>;

/// A pipeline that is being compiled; dropping this does not end that.
#[cfg(not(target_arch = "wasm32"))]
pub type Compiling = Pin<Box<dyn Future<Output = Result<ComputePipeline, String>> + Send>>;
/// A pipeline that is being compiled; dropping this does not end that.
#[cfg(target_arch = "wasm32")]
pub type Compiling = Pin<Box<dyn Future<Output = Result<ComputePipeline, String>>>>;

/// The same with the library's error.
#[cfg(not(target_arch = "wasm32"))]
pub(super) type Started = Pin<Box<dyn Future<Output = Result<ComputePipeline, GpuError>> + Send>>;
#[cfg(target_arch = "wasm32")]
pub(super) type Started = Pin<Box<dyn Future<Output = Result<ComputePipeline, GpuError>>>>;

/// Kernels wanted later that compile at a time: a browser compiles in the order in which it is asked.
const AT_A_TIME: usize = 2;

/// Kernels that are not waited for.
#[derive(Default)]
pub(super) struct Ahead {
    started: Mutex<Vec<(Arc<Pipeline>, Started)>>,
    later: Mutex<Vec<(Arc<Pipeline>, Kernel)>>, // to be started after those that are wanted soon
    waiting: Mutex<Vec<Waker>>,                 // who to tell of each that is there
    closed: AtomicBool,                         // no more are added
}

impl Debug for Ahead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} kernels ahead", self.lock().len())
    }
}

impl Ahead {
    fn lock(&self) -> MutexGuard<'_, Vec<(Arc<Pipeline>, Started)>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be started later.
    fn later(&self) -> MutexGuard<'_, Vec<(Arc<Pipeline>, Kernel)>> {
        self.later.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether kernels can be added.
    pub fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Relaxed)
    }

    /// Finds or adds `kernel`; starts it at once where it is wanted `soon`.
    pub fn ask(&self, gpu: &Gpu, kernel: &Kernel, soon: bool) -> Arc<Pipeline> {
        let is_it = |pipeline: &Arc<Pipeline>| pipeline.name == kernel.name;
        if let Some((found, _)) = self.lock().iter().find(|(pipeline, _)| is_it(pipeline)) {
            return found.clone();
        }
        let mut later = self.later();
        let at = later.iter().position(|(pipeline, _)| is_it(pipeline));
        let pipeline = match at {
            Some(at) if soon => later.swap_remove(at).0,
            Some(at) => return later[at].0.clone(),
            None => Arc::new(Pipeline::of(gpu.device(), kernel)),
        };
        match soon {
            true => (self.lock()).push((pipeline.clone(), gpu.start(kernel, &pipeline))),
            false => later.push((pipeline.clone(), kernel.clone())),
        }
        pipeline
    }

    /// Starts kernels of those that are wanted later: at most `most` of which `wanted` is true. Whether there were any.
    fn start_later(&self, gpu: &Gpu, most: usize, wanted: impl Fn(&Pipeline) -> bool) -> bool {
        let mut chosen = Vec::new();
        self.later().retain(|(pipeline, kernel)| {
            let takes = chosen.len() < most && wanted(pipeline);
            if takes {
                chosen.push((pipeline.clone(), kernel.clone()));
            }
            !takes
        });
        let any = !chosen.is_empty();
        for (pipeline, kernel) in chosen {
            let started = gpu.start(&kernel, &pipeline);
            self.lock().push((pipeline, started));
        }
        any
    }

    /// Waits for those started kernels of which `wanted` is true. Where the wait is given up they can be waited for again.
    async fn wait(&self, gpu: &Gpu, wanted: impl Fn(&Pipeline) -> bool) -> Result<(), GpuError> {
        poll_fn(|context| {
            let mut list = self.lock();
            let mut at = 0;
            let mut all = true;
            let mut news = false;
            while let Some((kernel, started)) = list.get_mut(at) {
                if !wanted(kernel) {
                    at += 1;
                    continue;
                }
                match started.as_mut().poll(context) {
                    Poll::Pending => {
                        all = false;
                        at += 1;
                    }
                    Poll::Ready(Ok(compute)) => {
                        let (kernel, _) = list.swap_remove(at);
                        gpu.keep(kernel, compute);
                        news = true;
                    }
                    Poll::Ready(Err(error)) => {
                        // Whoever asks again hears the same.
                        let kernel = kernel.name.clone();
                        let message = match &error {
                            GpuError::Compile { message, .. } => message.clone(),
                            other => other.to_string(),
                        };
                        *started =
                            Box::pin(async move { Err(GpuError::Compile { kernel, message }) });
                        return Poll::Ready(Err(error));
                    }
                }
            }
            // A future wakes who polled it last: all others hear of it here.
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if news || all {
                waiting.drain(..).for_each(Waker::wake);
            }
            if all {
                return Poll::Ready(Ok(()));
            }
            if !waiting.iter().any(|other| other.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

impl Gpu {
    /// The same device, whose kernels are compiled by `compiler`. It has kernels of its own: handles that were cloned
    /// before keep theirs.
    pub fn with_compiler(self, compiler: Arc<dyn Compiler>) -> Self {
        let (device, queue) = (self.device(), self.queue());
        Self::made(device, queue, self.capabilities().clone(), Some(compiler))
    }

    /// A handle whose [`pipeline`](Self::pipeline) does not wait for kernels to compile. They can be bound at once,
    /// and run after [`compiled`](Self::compiled). Without a [`Compiler`] it waits as ever.
    pub(crate) fn ahead(&self) -> Self {
        Self {
            ahead: self.compiler().map(|_| Arc::default()),
            ..self.clone()
        }
    }

    /// A handle for kernels that are asked for together and then waited for, so that they compile side by side. Where this
    /// handle does not wait for its kernels, that one does not either.
    pub(crate) fn together(&self) -> Together {
        let is_open = self.ahead.as_ref().is_some_and(|ahead| ahead.is_open());
        Together {
            gpu: if is_open { self.clone() } else { self.ahead() },
            waits: !is_open,
        }
    }

    /// The same handle for kernels that are wanted later: they are started by [`compiled`](Self::compiled), or when they are missing.
    pub(crate) fn later(&self) -> Self {
        Self {
            soon: false,
            ..self.clone()
        }
    }

    /// From now on this handle waits for each kernel that it is asked for.
    pub(crate) fn close(&self) {
        if let Some(ahead) = &self.ahead {
            ahead.closed.store(true, Ordering::Relaxed);
        }
    }

    /// Whether no kernel of this handle is left to be waited for.
    pub(crate) fn is_compiled(&self) -> bool {
        self.ahead
            .as_ref()
            .is_none_or(|ahead| ahead.lock().is_empty() && ahead.later().is_empty())
    }

    /// Waits for the kernels that were asked for through this handle. Those that are wanted later are started a few at a
    /// time, so that whoever asks for others meanwhile does not wait for all of them.
    ///
    /// # Errors
    /// [`GpuError::Compile`] for one that the device refuses.
    pub(crate) async fn compiled(&self) -> Result<(), GpuError> {
        let Some(ahead) = &self.ahead else {
            return Ok(());
        };
        loop {
            ahead.wait(self, |_| true).await?;
            if !ahead.start_later(self, AT_A_TIME, |_| true) {
                return Ok(());
            }
        }
    }

    /// Waits for those of them that were missing while something was recorded, which then has to be recorded again.
    ///
    /// # Errors
    /// As [`compiled`](Self::compiled).
    pub(crate) async fn compiled_missing(&self) -> Result<(), GpuError> {
        match &self.ahead {
            Some(ahead) => {
                ahead.start_later(self, usize::MAX, Pipeline::was_missing);
                ahead.wait(self, Pipeline::was_missing).await
            }
            None => Ok(()),
        }
    }
}

/// Kernels that are asked for together.
pub(crate) struct Together {
    /// The handle to ask.
    pub gpu: Gpu,
    waits: bool,
}

impl Together {
    /// Waits for them.
    ///
    /// # Errors
    /// [`GpuError::Compile`] for one that the device refuses.
    pub async fn end(self) -> Result<(), GpuError> {
        if self.waits {
            self.gpu.close();
            self.gpu.compiled().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, task::Context};

    use super::*;
    use crate::{gpu::Capabilities, variants};

    /// Compiles when it is asked for the second time; refuses kernels where it is told to.
    #[derive(Debug, Default)]
    struct Slow {
        asked: AtomicUsize,
        refuses: bool,
    }

    impl Compiler for Slow {
        fn compile(&self, make: MakePipeline) -> Compiling {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let refuses = self.refuses;
            let mut polls = 0;
            Box::pin(poll_fn(move |context| {
                polls += 1;
                context.waker().wake_by_ref();
                match (polls, refuses) {
                    (1, _) => Poll::Pending,
                    (_, true) => Poll::Ready(Err("no such thing".to_owned())),
                    (_, false) => Poll::Ready(Ok(make())),
                }
            }))
        }
    }

    /// A device without a GPU, its compiler and three kernels.
    fn device(refuses: bool) -> (Gpu, Arc<Slow>, Vec<Kernel>) {
        let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
        let compiler = Arc::new(Slow {
            refuses,
            ..Default::default()
        });
        let floor = Capabilities::of(&device).floor();
        let mut kernels = variants::kernels(&floor);
        kernels.retain(|kernel| kernel.check(&floor).is_ok());
        kernels.truncate(3);
        let gpu = Gpu::with_capabilities(&device, &queue, floor);
        (gpu.with_compiler(compiler.clone()), compiler, kernels)
    }

    /// Whether a pass takes the kernel.
    fn runs(gpu: &Gpu, kernel: &Pipeline) -> bool {
        let mut encoder = (gpu.device()).create_command_encoder(&Default::default());
        kernel.set(&mut encoder.begin_compute_pass(&Default::default()))
    }

    #[test]
    fn kernels_are_waited_for_when_they_are_wanted() {
        let (gpu, compiler, kernels) = device(false);
        let asked = || compiler.asked.load(Ordering::Relaxed);
        let ahead = gpu.ahead();
        pollster::block_on(async {
            let first = ahead.pipeline(&kernels[0]).await.unwrap();
            let second = ahead.pipeline(&kernels[1]).await.unwrap();
            let third = ahead.later().pipeline(&kernels[2]).await.unwrap();
            assert!(Arc::ptr_eq(
                &third,
                &ahead.later().pipeline(&kernels[2]).await.unwrap()
            ));
            // What is wanted later is started when the others are there, or when it is missing.
            ahead.close();
            assert_eq!(asked(), 2);
            assert!(!runs(&gpu, &second));
            ahead.compiled_missing().await.unwrap();
            assert!(runs(&gpu, &second) && !ahead.is_compiled());
            assert!(!runs(&gpu, &first));
            assert_eq!(asked(), 2);
            ahead.compiled().await.unwrap();
            assert!(runs(&gpu, &first) && runs(&gpu, &third) && ahead.is_compiled());
            // Others find them, and wait for what is not there.
            assert!(Arc::ptr_eq(
                &first,
                &gpu.pipeline(&kernels[0]).await.unwrap()
            ));
            assert_eq!(asked(), 3);
        });
    }

    #[test]
    fn what_is_wanted_soon_after_all_is_started_at_once() {
        let (gpu, compiler, kernels) = device(false);
        let ahead = gpu.ahead();
        pollster::block_on(async {
            let later = ahead.later().pipeline(&kernels[0]).await.unwrap();
            assert_eq!(compiler.asked.load(Ordering::Relaxed), 0);
            let soon = ahead.pipeline(&kernels[0]).await.unwrap();
            assert!(Arc::ptr_eq(&later, &soon));
            assert_eq!(compiler.asked.load(Ordering::Relaxed), 1);
            ahead.close();
            // Nobody waits for a kernel that is asked for now but who asks.
            assert!(runs(&gpu, &ahead.pipeline(&kernels[1]).await.unwrap()));
        });
    }

    #[test]
    fn several_wait_for_the_same_kernels() {
        let (gpu, _, kernels) = device(false);
        let ahead = gpu.ahead();
        let kernel = pollster::block_on(ahead.pipeline(&kernels[0])).unwrap();
        let later = pollster::block_on(ahead.later().pipeline(&kernels[1])).unwrap();
        ahead.close();
        let mut all = std::pin::pin!(ahead.compiled());
        let context = &mut Context::from_waker(Waker::noop());
        assert!(all.as_mut().poll(context).is_pending());
        assert!(!runs(&gpu, &later));
        // What is missing does not wait for its turn.
        pollster::block_on(ahead.compiled_missing()).unwrap();
        assert!(runs(&gpu, &later));
        pollster::block_on(all).unwrap();
        assert!(runs(&gpu, &kernel) && ahead.is_compiled());
    }

    #[test]
    fn kernels_that_are_asked_for_together_are_there_in_the_end() {
        let (gpu, _, kernels) = device(false);
        let ahead = gpu.ahead();
        pollster::block_on(async {
            for (handle, waits) in [(&gpu, true), (&ahead, false)] {
                let kernel = &kernels[usize::from(waits)];
                let together = handle.together();
                let asked = together.gpu.pipeline(kernel).await.unwrap();
                assert!(!runs(&gpu, &asked));
                together.end().await.unwrap();
                assert_eq!(runs(&gpu, &asked), waits);
            }
            assert!(!ahead.is_compiled());
        });
    }

    #[test]
    fn a_wait_that_was_given_up_can_be_taken_up_again() {
        let (gpu, _, kernels) = device(false);
        let ahead = gpu.ahead();
        let kernel = pollster::block_on(ahead.pipeline(&kernels[0])).unwrap();
        {
            let mut waiting = std::pin::pin!(ahead.compiled());
            let context = &mut Context::from_waker(Waker::noop());
            assert!(waiting.as_mut().poll(context).is_pending());
        }
        pollster::block_on(ahead.compiled()).unwrap();
        assert!(runs(&gpu, &kernel));
    }

    #[test]
    fn a_refused_kernel_is_told_to_everyone_who_waits() {
        let (gpu, _, kernels) = device(true);
        let ahead = gpu.ahead();
        pollster::block_on(async {
            ahead.pipeline(&kernels[0]).await.unwrap();
            for _ in 0..2 {
                let error = ahead.compiled().await.unwrap_err().to_string();
                assert!(
                    error.contains(&kernels[0].name) && error.contains("no such thing"),
                    "{error}"
                );
            }
            let error = gpu.pipeline(&kernels[1]).await.unwrap_err();
            assert!(matches!(error, GpuError::Compile { .. }), "{error}");
        });
    }
}
