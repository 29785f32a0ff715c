//! `cargo xtask interop`: sunfleck on tensors of other programs. They have workspaces of their own, since they need newer
//! compilers and take minutes to build.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::{repository, test_adapters};

/// Arguments for cargo, which `test --full` has as a step too.
pub const ARGUMENTS: &str = "test --manifest-path interop/burn/Cargo.toml";

/// Builds and tests them on the test adapters.
pub fn run() -> Result<ExitCode> {
    let status = repository::cargo()
        .args(ARGUMENTS.split(' '))
        .envs(test_adapters::environment()?)
        .status()
        .context("cargo did not start")?;
    Ok(repository::exit_code(status))
}
