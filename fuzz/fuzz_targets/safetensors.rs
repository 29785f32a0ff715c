//! A model's safetensors file: header and tensor table.

#![no_main]

#[path = "../../tests/support/fuzz_bodies.rs"]
#[allow(dead_code)] // other targets use the rest
mod fuzz_bodies;

use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;

/// A folder of this process, whose files are written again each time.
fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("sunfleck-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for temporary files");
    folder
}

fuzz_target!(|bytes: &[u8]| {
    fuzz_bodies::read_safetensors(&folder(), bytes);
});
