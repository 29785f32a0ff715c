//! Node and npm: packages as their lock files say, programs of the project run with Node.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::stamp;

/// The Nodes that every package runs on, as their manifests have it: `^20.19.0 || >=22.12.0`.
const NODES: &str = "Node 20.19 or a later 20, or 22.12 or newer";

/// Whether every package runs on a Node of this version.
fn runs_on((major, minor): (u32, u32)) -> bool {
    match major {
        20 => minor >= 19,
        22 => minor >= 12,
        _ => major > 22,
    }
}

/// Says whether Node is there and new enough.
pub fn ensure_node() -> Result<()> {
    let version = Command::new("node")
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let Some(version) = version else {
        bail!("package and page need {NODES}, with npm: https://nodejs.org");
    };
    ensure!(
        parse(&version).is_some_and(runs_on),
        "package and page need {NODES}, given {version}: https://nodejs.org"
    );
    Ok(())
}

/// Major and minor of `v20.19.1`.
fn parse(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.strip_prefix('v')?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Installs what the lock file of `folder` lists, unless that is there already.
pub fn install(folder: &Path) -> Result<()> {
    let lock = folder.join("package-lock.json");
    let checksum = stamp::sha256_of(&lock, |_| ())
        .with_context(|| format!("{} can't be read", lock.display()))?;
    let mark = folder.join("node_modules/.sunfleck-lock");
    if fs::read_to_string(&mark).is_ok_and(|installed| installed == checksum) {
        return Ok(());
    }
    eprintln!("running npm ci in {}", folder.display());
    // None of the packages needs a script of its own to be installed.
    let arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    run(npm().args(arguments).current_dir(folder))?;
    fs::write(&mark, checksum).with_context(|| format!("{} can't be written", mark.display()))
}

/// npm, which is a script on Windows.
pub fn npm() -> Command {
    Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" })
}

/// Runs a program to its end; what it prints goes to stderr.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("{:?} did not start", command.get_program()))?;
    ensure!(
        status.success(),
        "{command:?} failed ({status}){}",
        command
            .get_current_dir()
            .map(|folder| format!(" in {}", folder.display()))
            .unwrap_or_default()
    );
    Ok(())
}

/// Node with a program from the packages of `folder`, started there.
pub fn tool(folder: &Path, script: &str) -> Command {
    let mut command = Command::new("node");
    command
        .arg(Path::new("node_modules").join(script))
        .current_dir(folder);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_node_are_compared_by_number() {
        assert_eq!(parse("v20.19.1"), Some((20, 19)));
        assert_eq!(parse("20.1.0"), None);
        for fits in ["v20.19.0", "v20.20.1", "v22.12.0", "v23.0.0", "v24.1.0"] {
            assert!(parse(fits).is_some_and(runs_on), "{fits}");
        }
        for does_not in ["v9.30.0", "v18.20.0", "v20.18.3", "v21.7.0", "v22.11.0"] {
            assert!(
                parse(does_not).is_some_and(|given| !runs_on(given)),
                "{does_not}"
            );
        }
    }
}
