//! `cargo xtask test`: every check that CI makes, in the order in which they fail fastest.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::arguments::TestRequest;
use crate::verbs::{interop, portability, targets};
use crate::{compilers, model, repository, test_adapters, toolchain, web_tests};

/// Runs the steps and stops at the first that fails, with its exit status.
pub fn run(request: &TestRequest) -> Result<ExitCode> {
    let start = Instant::now();
    if request.web {
        web_tests::run(&model::chosen()?)?;
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
    let mut environment = test_adapters::environment()?;
    let compilers = if only_tests {
        vec![]
    } else {
        compilers::environment()?
    };
    let model = model::chosen()?;
    environment.push(("SUNFLECK_MODEL", model.clone().into_os_string()));
    if request.full {
        environment.push(("SUNFLECK_FULL", "1".into()));
    }
    eprintln!("set-up: ready after {:.1} s", start.elapsed().as_secs_f64());

    let share = (!request.full).then(portability::share_of_today);
    let steps = steps(request, share.as_deref(), environment, compilers);
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
    if !only_tests {
        web_tests::run(&model)?;
    }
    if request.full && !only_tests {
        let targets = targets::run(None)?;
        if targets != ExitCode::SUCCESS {
            return Ok(targets);
        }
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

/// `share` of the kernels, or all of them, goes through every compiler.
fn steps(
    request: &TestRequest,
    share: Option<&str>,
    environment: Environment,
    compilers: Environment,
) -> Vec<Step> {
    let mut tests = Step::new("tests", "test --workspace --features cli", environment);
    if !request.filter.is_empty() {
        tests.arguments.push("--".into());
        tests.arguments.extend(request.filter.iter().cloned());
        return vec![tests];
    }
    let long = if request.full {
        let mut long = kernel_tiers(&tests.environment);
        let environment = without_full(&tests.environment);
        long.push(Step::new(
            "tensors of burn",
            interop::ARGUMENTS,
            environment,
        ));
        long
    } else {
        vec![]
    };
    let mut portability = Step::new("portability", portability::ARGUMENTS, compilers);
    portability.arguments.extend(share.map(OsString::from));
    let deny_warnings = vec![("RUSTDOCFLAGS", OsString::from("-D warnings"))];
    let mut steps = vec![
        Step::new("formatting", "fmt --all --check", vec![]),
        Step::new(
            "lints",
            "clippy --workspace --all-targets --features cli -- -D warnings",
            vec![],
        ),
        tests,
        portability,
        Step::new(
            "documentation",
            "doc --no-deps --features grammar",
            deny_warnings,
        ),
    ];
    steps.extend(long);
    steps
}

fn without_full(environment: &Environment) -> Environment {
    let normal = environment
        .iter()
        .filter(|(name, _)| *name != "SUNFLECK_FULL");
    normal.cloned().collect()
}

/// The tests of kernels once more: on devices that have no optional feature, and with the compiler's run-time checks, which
/// SwiftShader takes minutes to compile.
fn kernel_tiers(environment: &Environment) -> Vec<Step> {
    let mut without = without_full(environment);
    let mut checked = without.clone();
    without.push(("SUNFLECK_TEST_FEATURES", "none".into()));
    for (name, value) in &mut checked {
        if *name == "SUNFLECK_TEST_ADAPTERS" {
            *value = "llvmpipe".into();
        }
    }
    checked.push(("SUNFLECK_TEST_CHECKED", "1".into()));
    let arguments = "test --features cli --test gpu";
    vec![
        Step::new("kernels without features", arguments, without),
        Step::new("kernels with run-time checks", arguments, checked),
    ]
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
        steps(request, Some("3/32"), environment, vec![])
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
                "cargo run --quiet --package portability 3/32",
                "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --features grammar",
            ]
        );
    }

    #[test]
    fn long_tests_run_kernels_twice_more() {
        let environment = vec![
            ("SUNFLECK_TEST_ADAPTERS", "llvmpipe,SwiftShader".into()),
            ("SUNFLECK_FULL", "1".into()),
        ];
        let tiers: Vec<_> = kernel_tiers(&environment)
            .iter()
            .map(Step::to_repeat)
            .collect();
        assert_eq!(
            tiers,
            [
                "SUNFLECK_TEST_ADAPTERS=llvmpipe,SwiftShader SUNFLECK_TEST_FEATURES=none cargo test --features cli --test gpu",
                "SUNFLECK_TEST_ADAPTERS=llvmpipe SUNFLECK_TEST_CHECKED=1 cargo test --features cli --test gpu",
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
    fn words_for_a_shell_are_quoted() {
        assert_eq!(quoted(OsStr::new("it's")), r"'it'\''s'");
        assert_eq!(quoted(OsStr::new("")), "''");
        assert_eq!(quoted(OsStr::new("/a/b:/c")), "/a/b:/c");
    }
}
