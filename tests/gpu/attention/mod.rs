//! Attention against its twin.

mod axes;
mod batches;
mod case;
mod covering;
mod errors;
mod extras;
mod invariance;
mod limits;
mod masks;
mod matrix;
mod memory;
mod numerics;
mod properties;
mod recipe;
mod red_zone;
mod shapes;
mod tensors;
mod verify;

use sunfleck::{
    attention::{AttentionIo, AttentionProblem, Element, Mask, NO_KEY, Pages, TensorLayout},
    gpu::BufferView,
    reference::{
        attention::{self as twin, AttentionOptions, AttentionShape},
        compare::{Tolerance, compare},
    },
};

use case::case;
pub use case::run;
use verify::{check, check_few_and_many};

use crate::{adapters::on_every_adapter, random::Random};
