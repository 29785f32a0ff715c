//! Models from files: what is read, what is refused, and what a decoder computes.

#[path = "../gpu/adapters.rs"]
mod adapters;
mod batch;
mod decoder;
mod dequantised;
mod drafters;
mod families;
mod format;
mod fuzz_seed;
#[path = "../support/gguf_writer.rs"]
mod gguf_writer;
#[cfg(feature = "grammar")]
mod grammar;
mod hugging_face;
mod llama_cpp_tokens;
mod mtp;
#[path = "../gpu/random.rs"]
mod random;
mod refusals;
mod sampling;
mod saved;
mod sessions;
mod shards;
mod smollm;
mod text;
