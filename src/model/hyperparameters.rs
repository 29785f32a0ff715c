//! temporary
use super::*;
#[derive(Clone, Debug)]
pub struct Hyperparameters {
    pub block_count: u32, pub embedding_length: u32, pub feed_forward_length: u32, pub head_count: u32, pub head_count_kv: u32,
    pub key_length: u32, pub value_length: u32, pub rope_dimension_count: u32, pub rope_freq_base: f32, pub rope_scale: f32, pub rms_epsilon: f32,
    pub context_length: u32, pub vocabulary: u32,
}
impl Hyperparameters {
    pub fn from_gguf(g: &Gguf) -> Result<Self, GgufError> {
        let u = |k: &str| g.u32(&format!("llama.{k}"));
        let (d, h) = (u("embedding_length")?, u("attention.head_count")?);
        Ok(Self { block_count: u("block_count")?, embedding_length: d, feed_forward_length: u("feed_forward_length")?, head_count: h, head_count_kv: u("attention.head_count_kv")?,
            key_length: d / h, value_length: d / h, rope_dimension_count: u("rope.dimension_count")?, rope_freq_base: g.f32("llama.rope.freq_base")?, rope_scale: 1.0,
            rms_epsilon: g.f32("llama.attention.layer_norm_rms_epsilon")?, context_length: u("context_length")?, vocabulary: g.tensor("token_embd.weight")?.shape[1] as u32 })
    }
    pub fn check_tensors(&self, _g: &Gguf) -> Result<(), GgufError> { Ok(()) }
}
