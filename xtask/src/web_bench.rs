//! `cargo xtask bench web`: decoding in Chromium, beside llama.cpp in WebAssembly.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::{browsers, model, npm, repository, vulkan_driver, web_package};

/// The benchmark's name.
pub const NAME: &str = "web";

/// Builds the package and runs the benchmark; `arguments` are those of `web-demo/bench/run.mjs`.
pub fn run(arguments: &[OsString]) -> Result<ExitCode> {
    let model = model::chosen()?;
    let Some(browsers) = browsers::ensure()? else {
        bail!("`bench web` needs Chromium");
    };
    web_package::build()?;
    let page = repository::root().join("web-demo");
    npm::install(&page)?;
    npm::install(&page.join("bench"))?;

    let folder = std::env::var_os("SUNFLECK_BENCH_OUT").map_or_else(
        || Ok(repository::target_folder()?.join("sunfleck-bench")),
        |folder| {
            std::path::absolute(PathBuf::from(folder)).context("SUNFLECK_BENCH_OUT is no path")
        },
    )?;
    let mut command = Command::new("node");
    command
        .arg("bench/run.mjs")
        .arg("--program")
        .arg(&browsers.chromium)
        .arg("--model")
        .arg(model)
        .arg("--out")
        .arg(folder.join("web.json"))
        .args(arguments)
        .current_dir(page);
    if let Some(commit) = commit() {
        command.args(["--commit", &commit]);
    }
    // A GPU where the user names its driver; else the one that every machine has.
    if !vulkan_driver::chosen_by_user()
        && let Some(swiftshader) = vulkan_driver::swiftshader()
    {
        command.envs(vulkan_driver::only(&[&swiftshader]));
    }
    vulkan_driver::quiet(&mut command);
    let status = command.status().context("node did not start")?;
    Ok(repository::exit_code(status))
}

/// The commit that is checked out, where git tells it.
fn commit() -> Option<String> {
    let output = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .current_dir(repository::root())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success()).then(|| text.trim().to_owned())
}
