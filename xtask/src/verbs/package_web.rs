//! `cargo xtask package-web`: the npm package, ready to install or publish.

use std::process::ExitCode;

use anyhow::Result;

use crate::{print, web_package};

/// Builds and packs; prints the archive's path on stdout.
pub fn run() -> Result<ExitCode> {
    let package = web_package::build()?;
    eprintln!("{} bytes of code after gzip", package.compressed);
    print::line(package.archive.display())?;
    Ok(ExitCode::SUCCESS)
}
