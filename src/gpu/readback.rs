//! Reading results on the host. Kernel calls never do this; a caller asks for it by name.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use wgpu::{Buffer, BufferDescriptor, BufferUsages, CommandEncoder, MapMode};

use super::{Gpu, GpuError, scope};

/// A reusable buffer through which the host reads.
#[derive(Debug)]
pub struct ReadBack {
    staging: Buffer,
}

impl ReadBack {
    /// Room for `size` bytes.
    pub fn new(gpu: &Gpu, label: &str, size: u64) -> Self {
        // What could not be made can't be mapped either: `read` says so.
        let (staging, _) = scope::told(gpu.device(), || {
            gpu.device().create_buffer(&BufferDescriptor {
                label: Some(label),
                size: size.checked_next_multiple_of(4).unwrap_or(u64::MAX - 3),
                usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        });
        Self { staging }
    }

    /// Records the copy of the first bytes of `source` that fit.
    pub fn encode(&self, encoder: &mut CommandEncoder, source: &Buffer, offset: u64) {
        let size = self
            .staging
            .size()
            .min(source.size().saturating_sub(offset));
        encoder.copy_buffer_to_buffer(source, offset, &self.staging, 0, size);
    }

    /// Records the copy of the bytes `from` of `source` to the byte `at`.
    #[cfg(feature = "generate")]
    pub(crate) fn encode_part(
        &self,
        encoder: &mut CommandEncoder,
        source: &Buffer,
        from: std::ops::Range<u64>,
        at: u64,
    ) {
        let size = from.end - from.start;
        encoder.copy_buffer_to_buffer(source, from.start, &self.staging, at, size);
    }

    /// Waits for the submitted copy and returns the bytes.
    ///
    /// # Errors
    /// [`GpuError::ReadBack`] when the buffer can't be mapped, as after a lost device.
    pub async fn read(&self, gpu: &Gpu) -> Result<Vec<u8>, GpuError> {
        let fail = |message: String| GpuError::ReadBack {
            bytes: self.staging.size(),
            message,
        };
        let mapped = Signal::default();
        let sender = mapped.clone();
        let map = || {
            self.staging
                .map_async(MapMode::Read, .., move |result| sender.set(result));
        };
        if let (_, Some(error)) = scope::told(gpu.device(), map) {
            return Err(fail(error.to_string()));
        }
        // In a browser this does nothing and the event loop completes the mapping.
        gpu.device()
            .poll(wgpu::PollType::wait_indefinitely())
            .map_err(|error| fail(error.to_string()))?;
        mapped.await.map_err(|error| fail(error.to_string()))?;
        let bytes = self
            .staging
            .get_mapped_range(..)
            .map_err(|error| fail(error.to_string()))?
            .to_vec();
        self.staging.unmap();
        Ok(bytes)
    }
}

impl Gpu {
    /// Reads a whole buffer: submits a copy, waits, returns its words. For tests and tools.
    ///
    /// # Errors
    /// [`GpuError::View`] for a buffer that can't be copied from: without the usage `COPY_SRC`, or with a size that is
    /// no multiple of 4; [`GpuError::ReadBack`].
    pub async fn read_buffer<T: bytemuck::Pod>(&self, buffer: &Buffer) -> Result<Vec<T>, GpuError> {
        let fail = |problem: &str| GpuError::View {
            name: "buffer",
            offset: 0,
            end: buffer.size(),
            buffer_size: buffer.size(),
            problem: problem.to_owned(),
        };
        if !buffer.usage().contains(BufferUsages::COPY_SRC) {
            return Err(fail("create the buffer with COPY_SRC"));
        }
        if !buffer.size().is_multiple_of(4) {
            return Err(fail("the size must be a multiple of 4"));
        }
        let back = ReadBack::new(self, "read_buffer", buffer.size());
        let copy = || {
            let mut encoder = self.device().create_command_encoder(&Default::default());
            back.encode(&mut encoder, buffer, 0);
            self.queue().submit([encoder.finish()]);
        };
        if let (_, Some(error)) = scope::told(self.device(), copy) {
            return Err(GpuError::ReadBack {
                bytes: buffer.size(),
                message: error.to_string(),
            });
        }
        let bytes = back.read(self).await?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }
}

type MapResult = Result<(), wgpu::BufferAsyncError>;

/// A future that a callback completes.
#[derive(Clone, Default)]
struct Signal(Arc<Mutex<(Option<MapResult>, Option<Waker>)>>);

impl Signal {
    fn set(&self, result: MapResult) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = Some(result);
        if let Some(waker) = state.1.take() {
            waker.wake();
        }
    }
}

impl Future for Signal {
    type Output = MapResult;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<MapResult> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.0.take() {
            Some(result) => Poll::Ready(result),
            None => {
                state.1 = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
