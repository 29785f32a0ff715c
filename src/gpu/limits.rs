//! The one place that compares what a kernel needs with what the device offers.

use std::fmt;

use wgpu::Limits;

use super::GpuError;

/// A limit of the device that a kernel or buffer can run into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// Storage buffers in one shader stage.
    StorageBuffers,
    /// Bytes of workgroup memory.
    WorkgroupMemory,
    /// Invocations in one workgroup.
    Invocations,
    /// Workgroups along one dimension of a dispatch.
    Workgroups,
    /// Bytes of one storage binding.
    StorageBinding,
    /// Bytes of one buffer.
    BufferSize,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StorageBuffers => "a `max_storage_buffers_per_shader_stage`",
            Self::WorkgroupMemory => "a `max_compute_workgroup_storage_size`",
            Self::Invocations => "a `max_compute_invocations_per_workgroup`",
            Self::Workgroups => "a `max_compute_workgroups_per_dimension`",
            Self::StorageBinding => "a `max_storage_buffer_binding_size`",
            Self::BufferSize => "a `max_buffer_size`",
        })
    }
}

/// Checks one need against `limits`.
///
/// # Errors
/// [`GpuError::LimitExceeded`] naming `what`, the need and the limit.
pub fn check(limits: &Limits, what: &str, limit: Limit, needed: u64) -> Result<(), GpuError> {
    let available = match limit {
        Limit::StorageBuffers => u64::from(limits.max_storage_buffers_per_shader_stage),
        Limit::WorkgroupMemory => u64::from(limits.max_compute_workgroup_storage_size),
        // Firefox may report fewer invocations in all than along one axis: obey both.
        Limit::Invocations => u64::from(
            limits
                .max_compute_invocations_per_workgroup
                .min(limits.max_compute_workgroup_size_x),
        ),
        Limit::Workgroups => u64::from(limits.max_compute_workgroups_per_dimension),
        Limit::StorageBinding => limits.max_storage_buffer_binding_size,
        Limit::BufferSize => limits.max_buffer_size,
    };
    if needed <= available {
        return Ok(());
    }
    Err(GpuError::LimitExceeded {
        what: what.to_owned(),
        limit,
        needed,
        available,
    })
}
