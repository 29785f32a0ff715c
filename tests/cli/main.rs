//! The program `sunfleck` with a tiny random model: chats, colours, saved sessions.

mod chat;
#[path = "../support/gguf_writer.rs"]
mod gguf_writer;
#[path = "../gpu/random.rs"]
mod random;
