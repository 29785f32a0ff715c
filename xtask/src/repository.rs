//! This clone: where it is, cargo run inside it, and what cargo built.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::vulkan_driver;

/// The root folder of the clone.
pub fn root() -> PathBuf {
    // cargo sets the variable when it runs us; the constant is for the binary run by hand.
    let own = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let own = own
        .filter(|path| path.ends_with("xtask"))
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    own.parent().map_or_else(|| own.clone(), Path::to_path_buf)
}

/// The cargo that runs us, in the clone's root, as a user would start it.
pub fn cargo() -> Command {
    in_root(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A program that runs cargo, in the clone's root, as a user would start it.
pub fn in_root(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    // What cargo told us about ourselves is wrong for another package, and build scripts that look at it would run again
    // after every change between `cargo xtask` and plain cargo.
    for (name, _) in std::env::vars_os() {
        let of_package = [
            "CARGO_PKG_",
            "CARGO_MANIFEST_",
            "CARGO_BIN_",
            "CARGO_CRATE_",
        ];
        if of_package
            .iter()
            .any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
        {
            command.env_remove(name);
        }
    }
    vulkan_driver::quiet(&mut command);
    command
}

/// Builds the program `sunfleck` in release and gives its path. What cargo says goes to stderr.
pub fn build_program() -> Result<PathBuf> {
    let program = build(&["--bin", "sunfleck"])?.into_iter().next();
    Ok(program
        .context("cargo built no program called sunfleck")?
        .path)
}

/// A program that cargo built.
#[derive(Debug, PartialEq)]
pub struct Executable {
    /// The kind of its target: `bin`, `test` or `bench`.
    pub kind: String,
    /// The name of its target.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// Builds targets in release with the feature `cli` and gives their programs. What cargo says goes to stderr.
pub fn build(targets: &[&str]) -> Result<Vec<Executable>> {
    let mut command = cargo();
    command.args(["build", "--release", "--features", "cli"]);
    command.args(targets);
    // The paths come from cargo itself: a target folder may be set in several ways.
    command.arg("--message-format=json-render-diagnostics");
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo did not start")?;
    if !output.status.success() {
        bail!(
            "the program did not build; repeat: cargo build --release --features cli {}",
            targets.join(" ")
        );
    }
    Ok(executables_in(&String::from_utf8_lossy(&output.stdout)))
}

/// The programs in cargo's messages, one JSON object a line.
fn executables_in(messages: &str) -> Vec<Executable> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .filter_map(|message| {
            let target = &message["target"];
            Some(Executable {
                kind: target["kind"][0].as_str()?.to_owned(),
                name: target["name"].as_str()?.to_owned(),
                path: message["executable"].as_str()?.into(),
            })
        })
        .collect()
}

/// One of the crate's benchmarks or integration tests.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Whether it generates text, and so needs a model file: its target requires the feature.
    pub model: bool,
}

/// The crate's benchmarks, in the order of their names.
pub fn benchmarks() -> Result<Vec<Target>> {
    Ok(targets_in(&metadata()?, "bench"))
}

/// The crate's integration tests that can run elsewhere, in the order of their names.
pub fn tests() -> Result<Vec<Target>> {
    Ok(targets_in(&metadata()?, "test"))
}

/// The folder that cargo builds in.
pub fn target_folder() -> Result<PathBuf> {
    let folder = metadata()?["target_directory"].as_str().map(PathBuf::from);
    folder.context("cargo metadata names no target folder")
}

/// The crate's version.
pub fn version() -> Result<String> {
    let metadata = metadata()?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let version = packages
        .filter(|package| package["name"] == "sunfleck")
        .find_map(|package| Some(package["version"].as_str()?.to_owned()));
    version.context("cargo metadata lists no package sunfleck")
}

fn metadata() -> Result<Value> {
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo did not start")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed ({})",
        output.status
    );
    serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")
}

fn targets_in(metadata: &Value, kind: &str) -> Vec<Target> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let holds = |value: &Value, wanted: &str| list(value).iter().any(|item| item == wanted);
    let mut targets: Vec<Target> = list(&metadata["packages"])
        .iter()
        .filter(|package| package["name"] == "sunfleck")
        .flat_map(|package| list(&package["targets"]))
        .filter(|target| holds(&target["kind"], kind))
        // Tests of the program run it where cargo built it, so they can't go elsewhere.
        .filter(|target| kind != "test" || !holds(&target["required-features"], "cli"))
        .filter_map(|target| {
            Some(Target {
                name: target["name"].as_str()?.to_owned(),
                model: holds(&target["required-features"], "generate"),
            })
        })
        .collect();
    targets.sort_by(|a, b| a.name.cmp(&b.name));
    targets
}

/// A child's exit status as our own; the end by a signal as the shells write it, 128 + its number.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    if status.success() {
        return ExitCode::SUCCESS;
    }
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    let signal: Option<i32> = None;
    let code = status
        .code()
        .or(signal.map(|number| 128 + number))
        .and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_holds_the_workspace() {
        assert!(root().join("xtask/Cargo.toml").is_file());
    }

    #[test]
    fn programs_are_read_from_messages_of_cargo() {
        let messages = r#"{"reason":"build-script-executed"}
not json
{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"sunfleck"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"sunfleck"},"executable":"/t/release/sunfleck"}
{"reason":"build-finished","success":true}"#;
        let program = Executable {
            kind: "bin".into(),
            name: "sunfleck".into(),
            path: "/t/release/sunfleck".into(),
        };
        assert_eq!(executables_in(messages), [program]);
        assert_eq!(executables_in(""), []);
    }

    #[test]
    fn only_benchmarks_of_the_crate_are_listed() {
        let metadata = serde_json::json!({"packages": [
            {"name": "xtask", "targets": [{"kind": ["bench"], "name": "other"}]},
            {"name": "sunfleck", "targets": [
                {"kind": ["lib"], "name": "sunfleck"},
                {"kind": ["bench"], "name": "generate", "required-features": ["generate"]},
                {"kind": ["test"], "name": "cli", "required-features": ["cli"]},
                {"kind": ["test"], "name": "gpu"},
                {"kind": ["bench"], "name": "attention"}]}]});
        let target = |name: &str, model| Target {
            name: name.into(),
            model,
        };
        assert_eq!(
            targets_in(&metadata, "bench"),
            [target("attention", false), target("generate", true)]
        );
        assert_eq!(targets_in(&metadata, "test"), [target("gpu", false)]);
        assert!(targets_in(&Value::Null, "bench").is_empty());
    }
}
