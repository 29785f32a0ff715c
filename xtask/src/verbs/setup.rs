//! `cargo xtask setup`: only the set-up, and what it found.

use std::process::ExitCode;

use anyhow::Result;

use crate::{adapter, model, print, repository, vulkan_driver};

/// Brings model and adapter and prints both on stdout.
pub fn run() -> Result<ExitCode> {
    let model = model::chosen()?;
    let program = repository::build_program()?;
    let adapters = adapter::ensure(&program)?;
    print::line(format_args!("model    {}", model.display()))?;
    print::line(format_args!("program  {}", program.display()))?;
    for adapter in adapters {
        print::line(format_args!("adapter  {adapter}"))?;
    }
    for (name, icd) in [
        ("lavapipe", vulkan_driver::lavapipe()),
        ("SwiftShader", vulkan_driver::swiftshader()),
    ] {
        let place = icd.map_or("not here".to_owned(), |path| path.display().to_string());
        print::line(format_args!("test driver {name}: {place}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
