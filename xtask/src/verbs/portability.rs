//! `cargo xtask portability`: every kernel through the compilers of every API.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::{compilers, repository};

/// The arguments for cargo, which `test` has as a step too.
pub const ARGUMENTS: &str = "run --quiet --package portability";

/// Brings the compilers and runs the checks.
pub fn run() -> Result<ExitCode> {
    let status = repository::cargo()
        .args(ARGUMENTS.split(' '))
        .envs(compilers::environment()?)
        .status()
        .context("cargo did not start")?;
    Ok(repository::exit_code(status))
}
