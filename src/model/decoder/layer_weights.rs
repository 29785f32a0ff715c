//! The weights of one layer on the GPU.

use wgpu::Buffer;

use crate::{
    model::{Hyperparameters, LoadError, WeightSource, weights::WeightLoader},
    ops::Matrix,
};

/// Weights of one layer. A projection is one matrix where its tensors have one type, and several
/// whose results lie side by side otherwise.
#[derive(Debug)]
pub(crate) struct LayerWeights {
    pub attention_norm: Buffer,          // [width]
    pub qkv: Vec<Matrix>,                // [q heads + 2 kv heads, head_dim] x [width]
    pub biases: Option<Buffer>,          // [q heads + 2 kv heads, head_dim]
    pub head_norms: Option<[Buffer; 2]>, // of query and key heads, [head_dim]
    pub attention_output: Vec<Matrix>,   // [width] x [q head, head_dim]
    pub feed_forward_norm: Buffer,       // [width]
    pub gate_up: GateUpWeights,          // [feed forward] x [width], both
    pub down: Vec<Matrix>,               // [width] x [feed forward]
}

/// Gate and up projection.
#[derive(Debug)]
pub(crate) enum GateUpWeights {
    /// 16 rows of each in turn: see [`Epilogue::SwiGlu`](crate::ops::Epilogue::SwiGlu).
    Fused(Matrix),
    /// Of different types.
    Apart { gate: Vec<Matrix>, up: Vec<Matrix> },
}

/// Name of a tensor of block `i`.
pub(crate) fn block(i: u32, name: &str) -> String {
    format!("blk.{i}.{name}.weight")
}

impl LayerWeights {
    /// Loads those of layer `i`.
    pub async fn load<S: WeightSource>(
        i: u32,
        h: &Hyperparameters,
        loader: &mut WeightLoader<'_, S>,
    ) -> Result<Self, LoadError> {
        let name = |name: &str| block(i, name);
        Ok(Self {
            attention_norm: loader.vector(&name("attn_norm")).await?,
            qkv: loader
                .stacked(&[name("attn_q"), name("attn_k"), name("attn_v")])
                .await?,
            biases: match h.biases {
                true => {
                    let parts = ["attn_q", "attn_k", "attn_v"];
                    let names = parts.map(|part| format!("blk.{i}.{part}.bias"));
                    Some(loader.joined(&names).await?)
                }
                false => None,
            },
            head_norms: match h.head_norms {
                true => Some([
                    loader.vector(&name("attn_q_norm")).await?,
                    loader.vector(&name("attn_k_norm")).await?,
                ]),
                false => None,
            },
            attention_output: loader.stacked(&[name("attn_output")]).await?,
            feed_forward_norm: loader.vector(&name("ffn_norm")).await?,
            gate_up: match loader.gate_up(&name("ffn_gate"), &name("ffn_up")).await? {
                Some(matrix) => GateUpWeights::Fused(matrix),
                None => GateUpWeights::Apart {
                    gate: loader.stacked(&[name("ffn_gate")]).await?,
                    up: loader.stacked(&[name("ffn_up")]).await?,
                },
            },
            down: loader.stacked(&[name("ffn_down")]).await?,
        })
    }
}
