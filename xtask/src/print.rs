//! Lines on standard output, which may be closed or full.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use anyhow::{Context, Result};

/// Prints a line; nothing where nobody reads any more.
pub fn line(text: impl Display) -> Result<()> {
    let mut out = io::stdout().lock();
    not_left(writeln!(out, "{text}").and_then(|()| out.flush()))
}

/// A reader that left is no error.
fn not_left(written: io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("standard output can't be written"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_left_is_no_error_and_a_full_disk_is_one() {
        assert!(not_left(Ok(())).is_ok());
        assert!(not_left(Err(ErrorKind::BrokenPipe.into())).is_ok());
        assert!(not_left(Err(ErrorKind::StorageFull.into())).is_err());
    }
}
