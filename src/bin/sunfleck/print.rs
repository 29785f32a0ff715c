//! Lines on standard output, which may be closed or full.

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write as _},
};

/// Prints a line; whether somebody still reads.
///
/// # Errors
/// What keeps it from being written, such as a full disk.
pub fn line(text: impl Display) -> Result<bool, String> {
    let mut out = io::stdout().lock();
    still_read(writeln!(out, "{text}").and_then(|()| out.flush()))
}

/// Whether somebody still reads, by how writing went: a reader that left is no error.
///
/// # Errors
/// What else kept it from being written.
pub fn still_read(written: io::Result<()>) -> Result<bool, String> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(format!("standard output can't be written: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_left_is_no_error() {
        assert_eq!(still_read(Ok(())), Ok(true));
        assert_eq!(still_read(Err(ErrorKind::BrokenPipe.into())), Ok(false));
        let full = still_read(Err(ErrorKind::StorageFull.into()));
        assert!(full.unwrap_err().contains("can't be written"));
    }
}
