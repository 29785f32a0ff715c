//! Parts of the Rust toolchain that a minimal installation lacks.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::repository;

/// The target of the browser build.
pub const BROWSER_TARGET: &str = "wasm32-unknown-unknown";

/// Makes sure that `cargo fmt` and `cargo clippy` exist.
pub fn ensure_components() -> Result<()> {
    for (component, verb) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        let there = || succeeds(repository::cargo().args([verb, "--version"]));
        if !there() {
            add("component", component)?;
            if !there() {
                bail!("`cargo {verb}` does not run even after `rustup component add {component}`");
            }
        }
    }
    Ok(())
}

/// Makes sure that the browser target's standard library is installed.
pub fn ensure_browser_target() -> Result<()> {
    ensure_target(BROWSER_TARGET)
}

/// Makes sure that the standard library of a target is installed.
pub fn ensure_target(target: &str) -> Result<()> {
    let there = || -> Result<bool> {
        // Asked of rustc and not of rustup: a distribution's Rust has no rustup.
        let output = Command::new("rustc")
            .args(["--print", "target-libdir", "--target", target])
            .stdin(Stdio::null())
            .output()
            .context("rustc did not start")?;
        let folder = String::from_utf8_lossy(&output.stdout);
        Ok(output.status.success() && Path::new(folder.trim()).is_dir())
    };
    if !there()? {
        add("target", target)?;
        if !there()? {
            bail!("rustc has no {target} even after `rustup target add {target}`");
        }
    }
    Ok(())
}

/// cargo of another toolchain, such as `1.89` or `nightly`, in the clone's root. Versions are installed if need be; a
/// channel that moves, such as nightly, must be there.
pub fn cargo_of(toolchain: &str) -> Result<Command> {
    let there = || succeeds(Command::new("rustup").args(["run", toolchain, "cargo", "--version"]));
    if !there() {
        let version = toolchain.starts_with(|letter: char| letter.is_ascii_digit());
        if !version {
            bail!("Rust {toolchain} is not installed. Do: rustup toolchain install {toolchain}");
        }
        eprintln!("running rustup toolchain install {toolchain}");
        let mut install = Command::new("rustup");
        install
            .args(["toolchain", "install", toolchain, "--profile", "minimal"])
            .stdin(Stdio::null())
            .stdout(std::io::stderr());
        let status = install
            .status()
            .with_context(|| format!("there is no rustup to install Rust {toolchain}"))?;
        if !status.success() || !there() {
            bail!("Rust {toolchain} could not be installed ({status})");
        }
    }
    let mut command = repository::in_root("rustup");
    command.args(["run", toolchain, "cargo"]);
    // Set by the cargo that runs us, for the programs of its own toolchain.
    for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(name);
    }
    Ok(command)
}

fn add(kind: &str, name: &str) -> Result<()> {
    eprintln!("running rustup {kind} add {name}");
    let mut command = Command::new("rustup");
    command
        .args([kind, "add", name])
        .stdin(Stdio::null())
        .stdout(std::io::stderr());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => bail!("{name} could not be added ({status}). Do: rustup {kind} add {name}"),
        Err(_) => {
            bail!(
                "{name} is missing and there is no rustup to add it: install it as your Rust's distributor says"
            )
        }
    }
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
