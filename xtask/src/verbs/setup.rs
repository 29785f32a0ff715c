//! `cargo xtask setup`: only the set-up, and what it found.

use std::process::ExitCode;

use anyhow::Result;

use crate::{adapter, model, repository, vulkan_driver};

/// Brings model and adapter and prints both on stdout.
pub fn run() -> Result<ExitCode> {
    let model = model::chosen()?;
    let program = repository::build_program()?;
    let adapters = adapter::ensure(&program)?;
    println!("model    {}", model.display());
    println!("program  {}", program.display());
    for adapter in adapters {
        println!("adapter  {adapter}");
    }
    for (name, icd) in [
        ("lavapipe", vulkan_driver::lavapipe()),
        ("SwiftShader", vulkan_driver::swiftshader()),
    ] {
        let place = icd.map_or("not here".to_owned(), |path| path.display().to_string());
        println!("test driver {name}: {place}");
    }
    Ok(ExitCode::SUCCESS)
}
