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
