//! A GGUF model in two files; the first two bytes say where they are cut.

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
    let [low, high, bytes @ ..] = bytes else {
        return;
    };
    let cut = usize::from(u16::from_le_bytes([*low, *high]));
    fuzz_bodies::read_shards(&folder(), bytes, cut);
});
