//! Draft trees that are built on the GPU, from logits that are there, with no host in between.

use super::{dynamic, fixed, sampled, top_k};
use crate::gpu::{Capabilities, Kernel};

/// The most nodes of a tree that is built on the GPU.
pub const MAX_BUILT_NODES: u32 = 512;

/// Nodes that a kernel has workgroup memory for.
const ROOMS: [u32; 2] = [128, MAX_BUILT_NODES];

/// The smallest room for so many nodes.
pub(super) fn room(nodes: u32) -> u32 {
    match nodes <= ROOMS[0] {
        true => ROOMS[0],
        false => ROOMS[1],
    }
}

/// Every variant: see [`crate::variants`].
pub(crate) fn variants(capabilities: &Capabilities) -> Vec<Kernel> {
    let mut kernels = vec![top_k::blocks_kernel(capabilities), top_k::rows_kernel()];
    kernels.extend([sampled::draw_kernel(capabilities), sampled::rows_kernel()]);
    for room in ROOMS {
        kernels.push(sampled::grow_kernel(room));
        kernels.extend(dynamic::kernels(room));
        kernels.push(fixed::kernel(room));
    }
    kernels
}
