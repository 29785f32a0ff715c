//! `cargo xtask generate`: set-up, build, then the program itself in our place.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::arguments::{GenerateNeeds, generate_needs};
use crate::{adapter, model, repository, vulkan_driver};

/// Whether the cached model is what the program is to be given: SUNFLECK_MODEL it reads by itself.
fn wants_cached_model(needs: &GenerateNeeds, named_in_environment: bool) -> bool {
    needs.model && !named_in_environment
}

/// Runs `sunfleck generate` with the user's arguments, and `--model` where neither they nor SUNFLECK_MODEL name one.
pub fn run(arguments: &[OsString]) -> Result<ExitCode> {
    let needs = generate_needs(arguments);
    // The model comes first: a download that fails says so in seconds, a first build takes minutes.
    let model = if wants_cached_model(&needs, model::is_named_in_environment()) {
        Some(model::cached()?)
    } else {
        None
    };
    let program = repository::build_program()?;
    if needs.adapter {
        adapter::ensure(&program)?;
    }

    // In the user's own folder, not the clone's root: his paths are relative to it.
    let mut command = Command::new(program);
    command.arg("generate");
    if let Some(model) = model {
        // In front, because a `--` among the user's arguments ends the options.
        command.arg("--model").arg(model);
        // The demo model's own drafters, where the user names no others.
        let folder = repository::root().join("models/smollm2-135m-instruct");
        for (variable, path) in [
            ("SUNFLECK_DRAFTER_WEIGHTS", folder.clone()),
            ("SUNFLECK_DRAFT_VOCABULARY", folder.join("token_rank.json")),
        ] {
            if std::env::var_os(variable).is_none() {
                command.env(variable, path);
            }
        }
    }
    command.args(arguments);
    vulkan_driver::quiet(&mut command);
    become_program(command)
}

/// On unix the program takes our place, so that Ctrl-C, exit status and terminal are its own.
#[cfg(unix)]
fn become_program(mut command: Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    let error = command.exec();
    Err(anyhow::Error::new(error)
        .context(format!("{} did not start", command.get_program().display())))
}

/// Elsewhere Ctrl-C reaches both of us: we ignore it and wait for the program, which ends as it thinks right.
#[cfg(not(unix))]
fn become_program(mut command: Command) -> Result<ExitCode> {
    use anyhow::Context;
    #[cfg(windows)]
    ctrlc::set_handler(|| {}).context("Ctrl-C could not be left to the program")?;
    let status = command.status().context("the program did not start")?;
    Ok(repository::exit_code(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_the_user_names_comes_before_the_cached_one() {
        let needs = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            generate_needs(&words)
        };
        assert!(wants_cached_model(&needs(&["hello"]), false));
        assert!(!wants_cached_model(&needs(&["hello"]), true));
        assert!(!wants_cached_model(&needs(&["--model", "a.gguf"]), false));
        assert!(!wants_cached_model(&needs(&["--help"]), false));
    }
}
