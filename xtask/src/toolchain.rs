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
    let there = || -> Result<bool> {
        // Asked of rustc and not of rustup: a distribution's Rust has no rustup.
        let output = Command::new("rustc")
            .args(["--print", "target-libdir", "--target", BROWSER_TARGET])
            .stdin(Stdio::null())
            .output()
            .context("rustc did not start")?;
        let folder = String::from_utf8_lossy(&output.stdout);
        Ok(output.status.success() && Path::new(folder.trim()).is_dir())
    };
    if !there()? {
        add("target", BROWSER_TARGET)?;
        if !there()? {
            bail!("rustc has no {BROWSER_TARGET} even after `rustup target add {BROWSER_TARGET}`");
        }
    }
    Ok(())
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
