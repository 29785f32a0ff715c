//! What came of a check that can lack what it needs.

use std::fmt;
use std::process::Command;

use anyhow::Result;

/// The outcome of one check.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It ran and found nothing.
    Passed,
    /// It ran and found something; what to repeat.
    Failed(String),
    /// It did not run: what it needs can't be had on this machine.
    NotHere(String),
}

impl Outcome {
    /// Runs a command; an error is what kept it from being set up.
    pub fn of(command: Result<Command>) -> Outcome {
        let mut command = match command {
            Ok(command) => command,
            Err(error) => return Outcome::NotHere(format!("{error:#}")),
        };
        match command.stdin(std::process::Stdio::null()).status() {
            Ok(status) if status.success() => Outcome::Passed,
            Ok(status) => Outcome::Failed(format!("{command:?} ({status})")),
            Err(error) => Outcome::NotHere(format!("{command:?} did not start: {error}")),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed(what) => write!(f, "FAILED: {what}"),
            Self::NotHere(why) => write!(f, "NOT CHECKED HERE: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_no_failure_and_no_pass() {
        let missing = Outcome::of(Err(anyhow::anyhow!("no rustup")));
        assert_eq!(missing, Outcome::NotHere("no rustup".into()));
        assert_eq!(missing.to_string(), "NOT CHECKED HERE: no rustup");
        let absent = Outcome::of(Ok(Command::new("sunfleck-no-such-program")));
        assert!(matches!(absent, Outcome::NotHere(why) if why.contains("did not start")));
    }

    #[cfg(unix)]
    #[test]
    fn a_command_that_fails_is_a_failure() {
        assert_eq!(Outcome::of(Ok(Command::new("true"))), Outcome::Passed);
        let failed = Outcome::of(Ok(Command::new("false")));
        assert!(matches!(failed, Outcome::Failed(what) if what.contains("exit status: 1")));
    }
}
