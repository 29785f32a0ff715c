//! `cargo xtask portability`: every kernel through the compilers of every API.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::{compilers, repository};

/// The arguments for cargo, which `test` has as a step too.
pub const ARGUMENTS: &str = "run --quiet --package portability";

/// `test` takes one kernel of so many: compilers need up to a minute for them.
const SHARES: u64 = 32;

/// Brings the compilers and runs the checks on all kernels or a share of them.
pub fn run(share: Option<&str>) -> Result<ExitCode> {
    let status = repository::cargo()
        .args(ARGUMENTS.split(' '))
        .args(share)
        .envs(compilers::environment()?)
        .status()
        .context("cargo did not start")?;
    Ok(repository::exit_code(status))
}

/// Another share each day, so that all kernels take their turns.
pub fn share_of_today() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    share_of(now.map_or(0, |now| now.as_secs() / 86_400))
}

fn share_of(day: u64) -> String {
    format!("{}/{SHARES}", day % SHARES + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_each_other() {
        assert_eq!(
            [0, 1, 31, 32].map(share_of),
            ["1/32", "2/32", "32/32", "1/32"]
        );
    }
}
