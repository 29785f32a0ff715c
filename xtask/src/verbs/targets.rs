//! `cargo xtask targets`: the library for every target and set of features, the oldest Rust, its documentation as docs.rs
//! builds it, the packed crate, dependencies and compatibility.

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::outcome::Outcome;
use crate::{repository, rust_tools, toolchain};

/// A target and the features that mean nothing there: wgpu's backends of other systems. What is left is tried alone,
/// each on its own, and all defaults together.
struct Target {
    triple: &'static str,
    without: &'static [&'static str],
}

/// `static-dxc` is left out everywhere: its build script downloads DirectX's compiler.
const TARGETS: [Target; 5] = [
    Target {
        triple: "x86_64-pc-windows-msvc",
        without: &["static-dxc", "metal", "webgpu"],
    },
    Target {
        triple: "aarch64-apple-darwin",
        without: &["static-dxc", "dx12", "gles", "vulkan", "webgpu"],
    },
    Target {
        triple: "aarch64-apple-ios",
        without: &["static-dxc", "dx12", "gles", "vulkan", "webgpu", "cli"],
    },
    Target {
        triple: "aarch64-linux-android",
        without: &["static-dxc", "dx12", "metal", "webgpu", "cli"],
    },
    Target {
        triple: toolchain::BROWSER_TARGET,
        without: &["static-dxc", "dx12", "metal", "vulkan", "cli"],
    },
];

/// Runs all checks, however one ends, and prints a table of them. `since` is the revision with which compatibility is
/// compared; the last tag of a version where it is not given.
pub fn run(since: Option<&str>) -> Result<ExitCode> {
    let metadata = metadata()?;
    let mut results = Vec::new();
    let mut check = |name: String, outcome: &dyn Fn() -> Outcome| {
        eprintln!("[{}] {name}", results.len() + 1);
        let began = Instant::now();
        let outcome = outcome();
        eprintln!(
            "[{}] {name}: {outcome} ({:.0} s)",
            results.len() + 1,
            began.elapsed().as_secs_f64()
        );
        results.push((name, outcome));
    };
    for target in &TARGETS {
        check(format!("every feature for {}", target.triple), &|| {
            Outcome::of(features_on(target))
        });
    }
    let rust = text(&metadata["rust_version"])?;
    check(format!("Rust {rust}, the oldest"), &|| {
        Outcome::of(with_oldest_rust(rust))
    });
    check("documentation as on docs.rs".into(), &|| {
        Outcome::of(docs_rs(&metadata["metadata"]["docs"]["rs"]))
    });
    check("the packed crate builds".into(), &|| {
        let mut command = repository::cargo();
        // Not to publish it: the clone may be in the middle of a change.
        command.args(["package", "--package", "sunfleck", "--allow-dirty"]);
        Outcome::of(Ok(command))
    });
    check(
        "licences, sources and doubles of dependencies".into(),
        &|| {
            Outcome::of(rust_tools::deny().map(|mut command| {
                command.args(["check", "bans", "licenses", "sources"]);
                command
            }))
        },
    );
    check("advisories against dependencies".into(), &|| {
        Outcome::of(advisories())
    });
    check("compatibility (cargo semver-checks)".into(), &|| {
        Outcome::of(compatibility(since))
    });

    println!("\n| check | outcome |\n|---|---|");
    for (name, outcome) in &results {
        println!("| {name} | {outcome} |");
    }
    let failed = results
        .iter()
        .any(|(_, outcome)| matches!(outcome, Outcome::Failed(_)));
    Ok(match failed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// What cargo knows of the crate.
fn metadata() -> Result<Value> {
    let output = repository::cargo()
        .args(["metadata", "--format-version=1", "--no-deps"])
        .stderr(Stdio::inherit())
        .output()
        .context("cargo did not start")?;
    ensure!(output.status.success(), "cargo metadata failed");
    let all: Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")?;
    let mut packages = all["packages"].as_array().into_iter().flatten();
    packages
        .find(|package| package["name"] == "sunfleck")
        .cloned()
        .context("cargo metadata has no package sunfleck")
}

fn text(value: &Value) -> Result<&str> {
    value
        .as_str()
        .context("cargo metadata lacks what Cargo.toml says")
}

fn features_on(target: &Target) -> Result<Command> {
    toolchain::ensure_target(target.triple)?;
    let mut command = rust_tools::hack()?;
    command.args([
        "check",
        "--package",
        "sunfleck",
        "--lib",
        "--each-feature",
        "--exclude-features",
        &target.without.join(","),
        "--target",
        target.triple,
    ]);
    Ok(command)
}

/// Library and program, and this program.
fn with_oldest_rust(rust: &str) -> Result<Command> {
    let mut command = toolchain::cargo_of(rust)
        .context("clippy's lint `incompatible_msrv`, in `cargo xtask test`, stands in for it")?;
    command.args(["check", "--package", "sunfleck", "--package", "xtask"]);
    command.args(["--lib", "--bins", "--features", "sunfleck/cli"]);
    Ok(command)
}

/// docs.rs takes a nightly compiler, which marks what needs a feature.
fn docs_rs(settings: &Value) -> Result<Command> {
    let features: Vec<&str> = settings["features"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    ensure!(!features.is_empty(), "Cargo.toml says nothing to docs.rs");
    let mut command = toolchain::cargo_of("nightly")?;
    command
        .args(["doc", "--no-deps", "--package", "sunfleck", "--features"])
        .arg(features.join(","))
        .env("RUSTDOCFLAGS", "--cfg docsrs -D warnings");
    Ok(command)
}

/// The database is a git repository, which can be out of reach.
fn advisories() -> Result<Command> {
    let mut fetch = rust_tools::deny()?;
    let output = fetch
        .args(["fetch", "db"])
        .stdin(Stdio::null())
        .output()
        .context("cargo deny did not start")?;
    ensure!(
        output.status.success(),
        "the database of advisories can't be reached"
    );
    let mut command = rust_tools::deny()?;
    command.args(["check", "advisories"]);
    Ok(command)
}

fn compatibility(since: Option<&str>) -> Result<Command> {
    let revision = match since {
        Some(revision) => revision.to_owned(),
        None => last_version()?,
    };
    let mut command = rust_tools::semver_checks()?;
    command.args(["--package", "sunfleck", "--baseline-rev", &revision]);
    command.args(["--only-explicit-features", "--features", "generate,grammar"]);
    Ok(command)
}

/// The last tag of a version.
fn last_version() -> Result<String> {
    let output = repository::in_root("git")
        .args(["describe", "--tags", "--abbrev=0", "--match", "v[0-9]*"])
        .stderr(Stdio::null())
        .output()
        .context("git did not start")?;
    let tag = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if tag.is_empty() {
        bail!("no version is tagged yet; `--since REVISION` compares with a revision");
    }
    Ok(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docs_rs_is_told_of_the_features() {
        let metadata = metadata().unwrap();
        let docs = &metadata["metadata"]["docs"]["rs"];
        assert_eq!(docs["features"], serde_json::json!(["generate", "grammar"]));
        assert_eq!(docs["rustdoc-args"], serde_json::json!(["--cfg", "docsrs"]));
        assert!(text(&metadata["rust_version"]).is_ok());
    }

    #[test]
    fn features_that_are_left_out_exist() {
        let metadata = metadata().unwrap();
        let features = metadata["features"].as_object().unwrap();
        for target in &TARGETS {
            for feature in target.without {
                assert!(features.contains_key(*feature), "{feature}");
            }
            assert!(
                target.without.len() < features.len() - 3,
                "{}",
                target.triple
            );
        }
    }
}
