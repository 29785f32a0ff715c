//! What can go wrong between a kernel and the device.

use super::Limit;

/// An error of the device layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// A kernel or buffer needs more than the device's limits allow.
    #[error(
        "{what} needs {limit} of {needed}, but the device was created with {available}; \
         create the device with a higher limit (`wgpu::Limits`) or make the problem smaller"
    )]
    LimitExceeded {
        /// The kernel or buffer that asked.
        what: String,
        /// The limit that was hit.
        limit: Limit,
        /// How much is needed.
        needed: u64,
        /// How much the device offers.
        available: u64,
    },
    /// The device refused a kernel.
    #[error("the device refused kernel `{kernel}`: {message}")]
    Compile {
        /// Name of the kernel variant.
        kernel: String,
        /// The compiler's message.
        message: String,
    },
    /// The device had too little memory.
    #[error("{what} of {bytes} bytes could not be allocated: {message}")]
    OutOfMemory {
        /// What was to be allocated.
        what: String,
        /// Its size in bytes.
        bytes: u64,
        /// The device's message.
        message: String,
    },
    /// A view does not fit its buffer or its binding.
    #[error(
        "view `{name}` covers bytes {offset}..{end} of a buffer of {buffer_size} bytes; {problem}"
    )]
    View {
        /// Name of the argument.
        name: &'static str,
        /// First byte.
        offset: u64,
        /// One past the last byte.
        end: u64,
        /// Size of the whole buffer in bytes.
        buffer_size: u64,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Two views that may not overlap do.
    #[error(
        "`{written}` is written by the kernel and shares bytes with `{other}`; use disjoint ranges"
    )]
    Alias {
        /// The argument that is written.
        written: &'static str,
        /// The argument it overlaps.
        other: &'static str,
    },
    /// Two views of one buffer, one written and one read, in the same dispatch.
    #[error(
        "`{written}` is written and `{read}` read through the same buffer in one dispatch, which \
         WebGPU refuses even where the ranges are disjoint; put one of them into another buffer"
    )]
    SharedBuffer {
        /// The argument that is written.
        written: &'static str,
        /// The argument that is only read.
        read: &'static str,
    },
    /// The result could not be read back.
    #[error("reading back {bytes} bytes failed: {message}; the device may have been lost")]
    ReadBack {
        /// Bytes asked for.
        bytes: u64,
        /// The device's message.
        message: String,
    },
    /// The device reported an error while work was recorded or run.
    #[error("the device reported an error: {message}")]
    Device {
        /// The device's message.
        message: String,
    },
}
