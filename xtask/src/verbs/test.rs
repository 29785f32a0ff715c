//! `cargo xtask test`: every check that CI makes, in the order in which they fail fastest.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::apt::{Apt, DRIVER_PACKAGES, Distribution, by_hand};
use crate::arguments::TestRequest;
use crate::{model, repository, toolchain, vulkan_driver, web_tests};

/// Carries SwiftShader's ICD file on Debian.
const SWIFTSHADER_PACKAGE: &str = "chromium";

/// Runs the steps and stops at the first that fails, with its exit status.
pub fn run(request: &TestRequest) -> Result<ExitCode> {
    let start = Instant::now();
    if request.web {
        web_tests::run(&model::chosen()?, request.full)?;
        return Ok(ExitCode::SUCCESS);
    }
    let only_tests = !request.filter.is_empty();
    if request.full && !only_tests {
        // What the last tests need is missed now, not in an hour.
        crate::npm::ensure_node()?;
        crate::browsers::ensure()?;
    }
    if !only_tests {
        toolchain::ensure_components()?;
        toolchain::ensure_browser_target()?;
    }
    let mut environment = drivers()?;
    let model = model::chosen()?;
    environment.push(("SUNFLECK_MODEL", model.clone().into_os_string()));
    if request.full {
        environment.push(("SUNFLECK_FULL", "1".into()));
    }
    eprintln!("set-up: ready after {:.1} s", start.elapsed().as_secs_f64());

    let steps = steps(request, environment);
    for (at, step) in steps.iter().enumerate() {
        let name = format!("[{}/{}] {}", at + 1, steps.len(), step.title);
        eprintln!("{name}: cargo {}", in_shell(&step.arguments));
        let began = Instant::now();
        let mut command = repository::cargo();
        command
            .args(&step.arguments)
            .envs(step.environment.iter().cloned());
        let status = command.status().context("cargo did not start")?;
        let seconds = began.elapsed().as_secs_f64();
        if !status.success() {
            eprintln!(
                "{name}: FAILED after {seconds:.1} s ({status}). To repeat it:\n  {}",
                step.to_repeat()
            );
            return Ok(repository::exit_code(status));
        }
        eprintln!("{name}: passed in {seconds:.1} s");
    }
    if !only_tests && request.full {
        web_tests::run(&model, true)?;
    }
    eprintln!(
        "every check passed in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    Ok(ExitCode::SUCCESS)
}

type Environment = Vec<(&'static str, OsString)>;

struct Step {
    title: &'static str,
    arguments: Vec<OsString>,
    environment: Environment,
}

impl Step {
    fn new(title: &'static str, arguments: &str, environment: Environment) -> Step {
        Step {
            title,
            arguments: arguments.split(' ').map(OsString::from).collect(),
            environment,
        }
    }

    /// The command line for a shell.
    fn to_repeat(&self) -> String {
        let set = self
            .environment
            .iter()
            .map(|(name, value)| format!("{name}={} ", quoted(value)));
        format!(
            "{}cargo {}",
            set.collect::<String>(),
            in_shell(&self.arguments)
        )
    }
}

fn steps(request: &TestRequest, environment: Environment) -> Vec<Step> {
    let mut tests = Step::new("tests", "test --workspace --features cli", environment);
    if !request.filter.is_empty() {
        tests.arguments.push("--".into());
        tests.arguments.extend(request.filter.iter().cloned());
        return vec![tests];
    }
    let browser = format!(
        "check --package sunfleck-wasm --target {}",
        toolchain::BROWSER_TARGET
    );
    let deny_warnings = vec![("RUSTDOCFLAGS", OsString::from("-D warnings"))];
    vec![
        Step::new("formatting", "fmt --all --check", vec![]),
        Step::new(
            "lints",
            "clippy --workspace --all-targets --features cli -- -D warnings",
            vec![],
        ),
        tests,
        Step::new(
            "documentation",
            "doc --no-deps --features grammar",
            deny_warnings,
        ),
        Step::new("browser build", &browser, vec![]),
    ]
}

/// The environment that shows the tests their adapters: lavapipe and SwiftShader where both can be had, since two
/// drivers with different subgroup sizes find more than one.
fn drivers() -> Result<Environment> {
    let named = std::env::var_os("SUNFLECK_TEST_ADAPTERS").is_some_and(|set| !set.is_empty());
    if named || vulkan_driver::chosen_by_user() {
        eprintln!("adapters: as SUNFLECK_TEST_ADAPTERS and VK_DRIVER_FILES in the environment say");
        return Ok(vec![]);
    }
    if cfg!(target_os = "linux") {
        install_missing()?;
    }
    let found = (vulkan_driver::lavapipe(), vulkan_driver::swiftshader());
    let environment = environment_for(found.0, found.1);
    if environment.is_empty() {
        eprintln!(
            "adapters: lavapipe and SwiftShader are not both here, so tests run on every adapter that is"
        );
    } else {
        eprintln!("adapters: lavapipe and SwiftShader");
    }
    Ok(environment)
}

/// Empty unless both are there: then the tests take what they find.
fn environment_for(lavapipe: Option<PathBuf>, swiftshader: Option<PathBuf>) -> Environment {
    let (Some(lavapipe), Some(swiftshader)) = (lavapipe, swiftshader) else {
        return vec![];
    };
    let mut environment = vulkan_driver::only(&[&lavapipe, &swiftshader]);
    // lavapipe's adapter calls itself llvmpipe, after the compiler inside.
    environment.push(("SUNFLECK_TEST_ADAPTERS", "llvmpipe,SwiftShader".into()));
    environment
}

fn install_missing() -> Result<()> {
    let missing = || {
        let mut packages = vec![];
        if vulkan_driver::lavapipe().is_none() {
            packages.extend(DRIVER_PACKAGES);
        }
        // Ubuntu's chromium is a snap, without the file that is wanted.
        if vulkan_driver::swiftshader().is_none() && Distribution::here() == Distribution::Debian {
            packages.push(SWIFTSHADER_PACKAGE);
        }
        packages
    };
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    let Some(apt) = Apt::find() else {
        if Distribution::here().has_apt() {
            eprintln!(
                "adapters: not all test drivers are here and none may be installed. Do: {}",
                by_hand(&packages)
            );
        }
        return Ok(());
    };
    eprintln!("installing the software Vulkan drivers that the tests run on");
    apt.install(&packages)?;
    let still = missing();
    if !still.is_empty() {
        bail!(
            "{} are installed, but hold no Vulkan driver where it was expected",
            still.join(" and ")
        );
    }
    Ok(())
}

fn in_shell(arguments: &[OsString]) -> String {
    arguments
        .iter()
        .map(|argument| quoted(argument))
        .collect::<Vec<_>>()
        .join(" ")
}

/// In single quotes where a shell would change it otherwise.
fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./,:=+@%".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(request: &TestRequest) -> Vec<String> {
        let environment = vec![("SUNFLECK_MODEL", OsString::from("/my models/a.gguf"))];
        steps(request, environment)
            .iter()
            .map(Step::to_repeat)
            .collect()
    }

    #[test]
    fn every_check_of_ci_is_a_step() {
        assert_eq!(
            lines(&TestRequest::default()),
            [
                "cargo fmt --all --check",
                "cargo clippy --workspace --all-targets --features cli -- -D warnings",
                "SUNFLECK_MODEL='/my models/a.gguf' cargo test --workspace --features cli",
                "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --features grammar",
                "cargo check --package sunfleck-wasm --target wasm32-unknown-unknown",
            ]
        );
    }

    #[test]
    fn filter_runs_the_tests_alone() {
        let request = TestRequest {
            filter: vec!["a b".into(), "--nocapture".into()],
            ..TestRequest::default()
        };
        let expected = "SUNFLECK_MODEL='/my models/a.gguf' cargo test --workspace --features cli -- 'a b' --nocapture";
        assert_eq!(lines(&request), [expected]);
    }

    #[test]
    fn both_drivers_or_none_are_demanded() {
        let (one, other) = (
            Some(PathBuf::from("/l.json")),
            Some(PathBuf::from("/s.json")),
        );
        assert!(environment_for(one.clone(), None).is_empty());
        assert!(environment_for(None, other.clone()).is_empty());
        let both = environment_for(one, other);
        assert!(both.contains(&("SUNFLECK_TEST_ADAPTERS", "llvmpipe,SwiftShader".into())));
        assert!(both.iter().any(|(name, _)| *name == "VK_DRIVER_FILES"));
    }

    #[test]
    fn words_for_a_shell_are_quoted() {
        assert_eq!(quoted(OsStr::new("it's")), r"'it'\''s'");
        assert_eq!(quoted(OsStr::new("")), "''");
        assert_eq!(quoted(OsStr::new("/a/b:/c")), "/a/b:/c");
    }
}
