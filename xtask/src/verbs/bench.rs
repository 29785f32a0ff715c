//! `cargo xtask bench`: the benchmarks, on the first adapter of the machine.

use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};

use crate::arguments::BenchRequest;
use crate::repository::Target;
use crate::{adapter, model, repository, web_bench};

/// Runs one benchmark or all of them; where one generates text, the model's path is in SUNFLECK_MODEL.
pub fn run(request: &BenchRequest) -> Result<ExitCode> {
    if request.name.as_deref() == Some(web_bench::NAME) {
        return web_bench::run(&request.arguments);
    }
    let benchmarks = choose(repository::benchmarks()?, request.name.as_deref())?;
    let needs_model = benchmarks.iter().any(|benchmark| benchmark.model);
    let model = needs_model.then(model::chosen).transpose()?;
    adapter::ensure(&repository::build_program()?)?;

    let mut command = repository::cargo();
    command.args(["bench", "--features", "cli"]);
    // Each by name: a bare `cargo bench` also starts the unit tests, which know no arguments of a benchmark.
    for benchmark in &benchmarks {
        command.args(["--bench", &benchmark.name]);
    }
    if !request.arguments.is_empty() {
        command.arg("--").args(&request.arguments);
    }
    if let Some(model) = model {
        command.env("SUNFLECK_MODEL", model);
    }
    let status = command.status().context("cargo did not start")?;
    Ok(repository::exit_code(status))
}

fn choose(there: Vec<Target>, wanted: Option<&str>) -> Result<Vec<Target>> {
    let Some(wanted) = wanted else {
        ensure!(!there.is_empty(), "this clone has no benchmark");
        return Ok(there);
    };
    if let Some(found) = there.iter().find(|benchmark| benchmark.name == wanted) {
        return Ok(vec![found.clone()]);
    }
    let names = there.iter().map(|benchmark| benchmark.name.as_str());
    let names: Vec<_> = names.chain([web_bench::NAME]).collect();
    bail!(
        "no benchmark is called {wanted:?}; there are: {}",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_benchmark_is_answered_with_the_known() {
        let benchmark = |name: &str, model| Target {
            name: name.into(),
            model,
        };
        let there = || vec![benchmark("attention", false), benchmark("generate", true)];
        assert_eq!(choose(there(), None).unwrap(), there());
        assert_eq!(
            choose(there(), Some("generate")).unwrap(),
            [benchmark("generate", true)]
        );
        assert!(
            choose(there(), Some("x"))
                .unwrap_err()
                .to_string()
                .contains("attention, generate, web")
        );
        assert!(choose(vec![], None).is_err());
    }
}
