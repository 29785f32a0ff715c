//! Errors that the device reports while an object is made, as values.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use wgpu::{Device, Error, ErrorFilter};

/// What `work` returns, and the first error that the device reported meanwhile. Without this it would go to the
/// handler of uncaptured errors, which panics unless the caller set another.
///
/// Natively the error is there at once. A browser tells it later, and no handler panics there: nothing is caught.
pub(super) fn told<T>(device: &Device, work: impl FnOnce() -> T) -> (T, Option<Error>) {
    if cfg!(target_arch = "wasm32") {
        return (work(), None);
    }
    let [memory, internal, validation] = [
        ErrorFilter::OutOfMemory,
        ErrorFilter::Internal,
        ErrorFilter::Validation,
    ]
    .map(|filter| device.push_error_scope(filter));
    let result = work();
    // The last first, and all of them.
    let validation = at_once(validation.pop());
    let internal = at_once(internal.pop());
    let memory = at_once(memory.pop());
    (result, validation.or(internal).or(memory))
}

fn at_once(error: impl Future<Output = Option<Error>>) -> Option<Error> {
    match pin!(error).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(error) => error,
        Poll::Pending => None,
    }
}
