//! Tests of the npm package and of the page: in Node, in a fresh project, in Chromium and in Firefox.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::{browsers, npm, repository, vulkan_driver, web_demo, web_package};

/// A text that the tiny model continues, and one for the demo model.
const TINY_PROMPT: &str = "the cat";
const PROMPT: &str = "Once upon a time, there was a little robot who";
const TOKENS: u32 = 24;

/// Builds package and page, and runs all their tests. `model` is the demo model's file.
pub fn run(model: &Path) -> Result<()> {
    let work = repository::target_folder()?.join("web-tests");
    fs::create_dir_all(&work).with_context(|| format!("{} can't be made", work.display()))?;
    let page = web_demo::build()?;
    let archive = web_package::archive()?;

    let tiny = work.join("tiny.gguf");
    let mut writer = Command::new("node");
    writer
        .arg("tests/tiny-model.mjs")
        .arg(&tiny)
        .current_dir(&page);
    npm::run(&mut writer)?;
    let tiny_expected = native(&tiny, TINY_PROMPT, &work.join("tiny.json"))?;
    step("Node", || in_node(&tiny, &tiny_expected))?;
    step("a fresh project", || {
        in_fresh_project(&archive, &work.join("consumer"))
    })?;

    let Some(browsers) = browsers::ensure()? else {
        return Ok(());
    };
    let shots = work.join("screenshots");
    let test = |name: &str, program: &Path| {
        let mut command = browser(&page, name, program, &shots);
        command
            .args(["--prompt", TINY_PROMPT])
            .arg("--model")
            .arg(&tiny);
        command.arg("--expected").arg(&tiny_expected);
        npm::run(&mut command)
    };
    step("Chromium", || test("chromium", &browsers.chromium))?;
    step("Firefox", || test("firefox", &browsers.firefox))?;

    let expected = native(model, PROMPT, &work.join("model.json"))?;
    let whole = |name: &str, program: &Path| {
        let mut command = browser(&page, name, program, &shots.join("model"));
        command.args(["--brief", "--patience", "900", "--prompt", PROMPT]);
        command
            .arg("--model")
            .arg(model)
            .arg("--expected")
            .arg(&expected);
        npm::run(&mut command)
    };
    step("Chromium, the demo model", || {
        whole("chromium", &browsers.chromium)
    })?;
    step("Firefox, the demo model", || {
        whole("firefox", &browsers.firefox)
    })?;
    eprintln!("screenshots are in {}", shots.display());
    Ok(())
}

fn step(name: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
    let began = Instant::now();
    run().with_context(|| format!("web tests in {name}"))?;
    eprintln!(
        "web tests, {name}: passed in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

/// What the native program generates greedily, as JSON in `file`.
fn native(model: &Path, prompt: &str, file: &Path) -> Result<PathBuf> {
    let mut command = repository::cargo();
    command.args([
        "run",
        "--quiet",
        "--features",
        "cli",
        "--bin",
        "sunfleck",
        "--",
    ]);
    command.args([
        "generate",
        "--raw",
        "--json",
        "--temperature",
        "0",
        "--drafter",
        "none",
    ]);
    command
        .args(["--max-tokens", &TOKENS.to_string(), "--model"])
        .arg(model)
        .arg(prompt);
    if let Some(lavapipe) = vulkan_driver::lavapipe().filter(|_| !vulkan_driver::chosen_by_user()) {
        command.envs(vulkan_driver::only(&[&lavapipe]));
    }
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo did not start")?;
    ensure!(
        output.status.success(),
        "the native program failed ({})",
        output.status
    );
    fs::write(file, output.stdout)
        .with_context(|| format!("{} can't be written", file.display()))?;
    Ok(file.to_owned())
}

fn in_node(tiny: &Path, expected: &Path) -> Result<()> {
    let Some(swiftshader) = vulkan_driver::swiftshader() else {
        if cfg!(target_os = "linux") {
            eprintln!("web tests, Node: not run, since there is no SwiftShader");
        }
        return Ok(());
    };
    let mut command = Command::new("node");
    command
        .args(["--test", "--test-reporter=spec", "tests/node.test.mjs"])
        .env("SUNFLECK_TINY", tiny)
        .env("SUNFLECK_EXPECTED", expected)
        .envs(vulkan_driver::only(&[&swiftshader]))
        .current_dir(repository::root().join("wasm"));
    vulkan_driver::quiet(&mut command);
    npm::run(&mut command)
}

/// A user's project with nothing but the archive, TypeScript and Vite: types are checked, and the page is built.
fn in_fresh_project(archive: &Path, folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("{} can't be emptied", folder.display()))?;
    }
    fs::create_dir_all(folder)?;
    let sources = repository::root().join("wasm/tests/consumer");
    for entry in fs::read_dir(&sources)? {
        let entry = entry?;
        fs::copy(entry.path(), folder.join(entry.file_name()))?;
    }
    fs::write(
        folder.join("package.json"),
        "{ \"private\": true, \"type\": \"module\" }\n",
    )?;
    let versions = locked_versions(&["typescript", "vite"])?;
    let mut install = npm::npm();
    install
        .args([
            "install",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--prefer-offline",
        ])
        .arg(archive)
        .args(versions)
        .current_dir(folder);
    npm::run(&mut install)?;
    npm::run(&mut npm::tool(folder, "typescript/bin/tsc"))?;
    npm::run(npm::tool(folder, "vite/bin/vite.js").args(["build", "--logLevel", "warn"]))?;
    let built = fs::read_dir(folder.join("dist/assets"))?.flatten();
    let has_module = built
        .into_iter()
        .any(|file| file.path().extension().is_some_and(|end| end == "wasm"));
    ensure!(has_module, "the built project has no WebAssembly file");
    Ok(())
}

/// `NAME@VERSION` as the page's lock file has them.
fn locked_versions(names: &[&str]) -> Result<Vec<String>> {
    let file = repository::root().join("web-demo/package-lock.json");
    let lock: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
    let version = |name: &&str| {
        let version = lock["packages"][format!("node_modules/{name}")]["version"].as_str();
        Some(format!("{name}@{}", version?))
    };
    match names.iter().map(version).collect() {
        Some(versions) => Ok(versions),
        None => bail!("{} does not list {}", file.display(), names.join(" and ")),
    }
}

fn browser(page: &Path, name: &str, program: &Path, shots: &Path) -> Command {
    let mut command = Command::new("node");
    command
        .args(["tests/browser.mjs", "--browser", name])
        .arg("--program")
        .arg(program)
        .arg("--screenshots")
        .arg(shots)
        .current_dir(page);
    let driver = match name {
        "firefox" => vulkan_driver::lavapipe(),
        _ => vulkan_driver::swiftshader(),
    };
    let environment: Vec<(&str, OsString)> =
        driver.map_or(vec![], |icd| vulkan_driver::only(&[&icd]));
    command.envs(environment);
    vulkan_driver::quiet(&mut command);
    command
}
