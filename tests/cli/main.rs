//! The program `sunfleck` with a tiny random model: chats, colours, saved sessions, files of
//! prompts.

mod chat;
#[path = "../support/gguf_writer.rs"]
mod gguf_writer;
mod prompts;
#[path = "../gpu/random.rs"]
mod random;
