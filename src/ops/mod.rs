//! The kernels a decoder needs beside attention: embedding, RMSNorm, RoPE, linear layers with
//! quantised weights, argmax.
//!
//! Every kernel reads how many rows it works on from a [`StepBuffer`] on the GPU, so the same
//! recorded dispatches serve steps of different sizes.

mod argmax;
mod dispatch;
mod embed;
mod linear;
mod matrix;
mod norm;
mod rope;
mod step;
mod swiglu;
mod tensor;

pub use argmax::Argmax;
pub use dispatch::Dispatch;
pub(crate) use dispatch::spread;
pub use embed::Embed;
pub use linear::{Epilogue, Linear, LinearIo};
pub use matrix::{Matrix, MatrixWriter, WeightType};
pub use norm::{RmsNorm, RmsNormIo, Rows};
pub use rope::{CacheElement, Rope, RopeIo, RopeShape};
pub use step::StepBuffer;
pub use swiglu::SwiGlu;
pub use tensor::{Element, QUANT_BLOCK, TensorLayout};

use crate::gpu::{Capabilities, Kernel};

/// Every variant of the operators: see [`crate::variants`].
pub(crate) fn variants(capabilities: &Capabilities) -> Vec<Kernel> {
    let mut kernels = vec![argmax::kernel(), norm::kernel(), swiglu::kernel()];
    kernels.extend([CacheElement::F32, CacheElement::F16].map(rope::kernel));
    for weight_type in WeightType::ALL {
        kernels.push(embed::kernel(weight_type));
        for epilogue in Epilogue::ALL {
            kernels.extend(linear::many_kernel(capabilities, weight_type, epilogue));
            for tokens in linear::TOKEN_TILES {
                kernels.push(linear::kernel(capabilities, weight_type, epilogue, tokens));
            }
        }
    }
    kernels
}
