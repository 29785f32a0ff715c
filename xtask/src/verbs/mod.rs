//! One file a verb.

pub mod bench;
pub mod generate;
pub mod pack;
pub mod portability;
pub mod setup;
pub mod test;
