//! Models from files: what is read, what is refused, and what a decoder computes.

#[path = "../gpu/adapters.rs"]
mod adapters;
mod batch;
mod damaged_folders;
mod decoder;
mod dequantised;
mod drafters;
mod drawn;
mod families;
mod format;
#[path = "../support/fuzz_bodies.rs"]
mod fuzz_bodies;
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
mod sentence_piece;
mod sessions;
mod shards;
mod smollm;
mod text;
