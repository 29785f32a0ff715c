//! `cargo xtask bench`: the benchmarks, on the first adapter of the machine.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::arguments::BenchRequest;
use crate::{adapter, model, repository};

/// Runs one benchmark or all of them; the model's path is in SUNFLECK_MODEL.
pub fn run(request: &BenchRequest) -> Result<ExitCode> {
    let names = choose(repository::benchmarks()?, request.name.as_deref())?;
    let model = model::chosen()?;
    adapter::ensure(&repository::build_program()?)?;

    let mut command = repository::cargo();
    command.args(["bench", "--features", "cli"]);
    // Each by name: a bare `cargo bench` also starts the unit tests, which know no arguments of a benchmark.
    for name in &names {
        command.args(["--bench", name]);
    }
    if !request.arguments.is_empty() {
        command.arg("--").args(&request.arguments);
    }
    command.env("SUNFLECK_MODEL", model);
    let status = command.status().context("cargo did not start")?;
    Ok(repository::exit_code(status))
}

fn choose(there: Vec<String>, wanted: Option<&str>) -> Result<Vec<String>> {
    match wanted {
        _ if there.is_empty() => bail!("this clone has no benchmark"),
        None => Ok(there),
        Some(wanted) if there.iter().any(|name| name == wanted) => Ok(vec![wanted.to_owned()]),
        Some(wanted) => bail!(
            "no benchmark is called {wanted:?}; there are: {}",
            there.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_benchmark_is_answered_with_the_known() {
        let there = || vec!["attention".to_owned(), "generate".to_owned()];
        assert_eq!(choose(there(), None).unwrap(), there());
        assert_eq!(choose(there(), Some("generate")).unwrap(), ["generate"]);
        assert!(
            choose(there(), Some("x"))
                .unwrap_err()
                .to_string()
                .contains("attention, generate")
        );
        assert!(choose(vec![], None).is_err());
    }
}
