//! What a GPU machine without internet and without Rust gets: built programs, and `run.sh`, which runs them there.

mod archive;
mod loader;
mod manifest;
mod parts;
mod request;
#[cfg(all(test, target_os = "linux"))]
mod run_tests;

pub use archive::Archive;
pub use loader::libraries;
pub use manifest::{Content, Manifest};
pub use parts::split;
pub use request::{HELP, PackRequest, Selection, file_name};

/// Name of the archive and of the folder that it unpacks to, and start of every file name of a pack.
pub const NAME: &str = "sunfleck-pack";

/// The script that runs what is packed.
pub const RUN: &str = include_str!("run.sh");
