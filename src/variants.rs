//! Every kernel variant that the library can emit, for tests, portability checks and docs.

use crate::{
    attention, cache,
    gpu::{Capabilities, Kernel},
    ops, tree, verify,
};

/// The variants on a device with these capabilities: all of the operators, and of attention those
/// for a spread of head sizes with every storage type and mask. Head sizes are constants of a
/// kernel, so there are as many variants as multiples of 4; these stand for the rest.
pub fn kernels(capabilities: &Capabilities) -> Vec<Kernel> {
    let mut kernels = ops::variants(capabilities);
    kernels.extend(attention::variants(capabilities));
    kernels.extend(cache::variants());
    kernels.extend(tree::variants(capabilities));
    kernels.extend(verify::variants(capabilities));
    #[cfg(feature = "generate")]
    kernels.extend(crate::draft::variants());
    kernels
}
