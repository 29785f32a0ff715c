//! The kernels a decoder needs beside attention: embedding, RMSNorm, RoPE, linear layers with
//! quantised weights, argmax.
//!
//! Every kernel reads how many rows it works on from a [`StepBuffer`] on the GPU, so the same
//! recorded dispatches serve steps of different sizes.

mod argmax;
mod bias;
mod dispatch;
mod embed;
mod head_norm;
mod linear;
mod matrix;
mod norm;
mod repack;
mod sizes;
mod step;
mod swiglu;
mod tensor;
mod weight_type;

pub use argmax::Argmax;
pub use bias::Bias;
pub use dispatch::Dispatch;
pub(crate) use dispatch::spread;
pub use embed::Embed;
pub use head_norm::{HeadNorm, HeadNormIo};
pub use linear::{Epilogue, Linear, LinearIo};
pub use matrix::{Matrix, MatrixWriter};
pub use norm::{RmsNorm, RmsNormIo, Rows};
pub use sizes::{DispatchSizes, Workgroups};
pub use step::StepBuffer;
pub use swiglu::SwiGlu;
pub use tensor::{Element, Pages, QUANT_BLOCK, TensorLayout};
pub use weight_type::WeightType;

use crate::gpu::{Capabilities, Kernel};

/// Every variant of the operators: see [`crate::variants`].
pub(crate) fn variants(capabilities: &Capabilities) -> Vec<Kernel> {
    let mut kernels = vec![
        argmax::kernel(),
        bias::kernel(),
        head_norm::kernel(),
        norm::kernel(),
        swiglu::kernel(),
    ];
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
