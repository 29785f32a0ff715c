//! Errors that the device reports while an object is made, as values.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use wgpu::{Device, Error, ErrorFilter, ErrorScopeGuard};

/// Catches every kind of error: which one a refusal is depends on the backend.
pub(super) struct Scopes([ErrorScopeGuard; 3]);

impl Scopes {
    pub fn open(device: &Device) -> Self {
        let filters = [
            ErrorFilter::OutOfMemory,
            ErrorFilter::Internal,
            ErrorFilter::Validation,
        ];
        Self(filters.map(|filter| device.push_error_scope(filter)))
    }

    /// The first error since [`Self::open`]. Later ones are not caught, whenever this is awaited.
    pub fn close(self) -> impl Future<Output = Option<Error>> {
        let [memory, internal, validation] = self.0;
        // The last first, and all of them.
        let validation = validation.pop();
        let internal = internal.pop();
        let memory = memory.pop();
        async move { validation.await.or(internal.await).or(memory.await) }
    }
}

/// What `work` returns, and the first error that the device reported meanwhile. Without this it would go to the
/// handler of uncaptured errors, which panics unless the caller set another.
///
/// Natively the error is there at once. A browser tells it later, and no handler panics there: nothing is caught.
pub(super) fn told<T>(device: &Device, work: impl FnOnce() -> T) -> (T, Option<Error>) {
    if cfg!(target_arch = "wasm32") {
        return (work(), None);
    }
    let scopes = Scopes::open(device);
    let result = work();
    match pin!(scopes.close()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(error) => (result, error),
        Poll::Pending => (result, None),
    }
}
