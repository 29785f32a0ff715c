//! A kernel bound to its arguments.

use std::sync::Arc;

use wgpu::{BindGroup, Buffer, ComputePass};

use crate::gpu::Pipeline;

/// A kernel with its arguments, ready to be recorded any number of times.
#[derive(Clone, Debug)]
pub struct Dispatch {
    pipeline: Arc<Pipeline>,
    arguments: BindGroup,
}

impl Dispatch {
    pub(crate) fn new(pipeline: Arc<Pipeline>, arguments: BindGroup) -> Self {
        Self {
            pipeline,
            arguments,
        }
    }

    /// Records `groups` workgroups along x, y and z. Nothing is recorded where one is zero.
    pub(crate) fn encode(&self, pass: &mut ComputePass<'_>, groups: [u32; 3]) {
        if groups.contains(&0) || !self.pipeline.set(pass) {
            return;
        }
        pass.set_bind_group(0, &self.arguments, &[]);
        pass.dispatch_workgroups(groups[0], groups[1], groups[2]);
    }

    /// Records as many workgroups as three u32s of `sizes` from byte `offset` on say when it runs.
    pub(crate) fn encode_sized(&self, pass: &mut ComputePass<'_>, sizes: &Buffer, offset: u64) {
        if !self.pipeline.set(pass) {
            return;
        }
        pass.set_bind_group(0, &self.arguments, &[]);
        pass.dispatch_workgroups_indirect(sizes, offset);
    }
}

/// Spreads `groups` workgroups over x and y where x alone would pass the limit. The kernel
/// computes its index as `y * groups_x + x` and leaves those past the end idle.
pub(crate) fn spread(groups: u32, max_per_dimension: u32) -> [u32; 2] {
    let y = groups.div_ceil(max_per_dimension.max(1)).max(1);
    [groups.div_ceil(y), y]
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn spread_covers_every_group_within_the_limit() {
        for groups in [1, 2, 65_535, 65_536, 131_071, 1_000_003] {
            let [x, y] = spread(groups, 65_535);
            assert!(x <= 65_535 && y <= 65_535);
            assert!(u64::from(x) * u64::from(y) >= u64::from(groups));
        }
    }
}
