//! One file a verb.

pub mod bench;
pub mod demo;
pub mod generate;
pub mod interop;
pub mod pack;
pub mod package_web;
pub mod portability;
pub mod setup;
pub mod targets;
pub mod test;
