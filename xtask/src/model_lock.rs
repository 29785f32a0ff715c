//! One set-up at a time in a cache folder.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};

use crate::package::on_writing;

/// Held while a process works in the folder. The system releases it when the process ends, however it ends.
pub struct FolderLock {
    // None where the file system knows no locks: then nobody can tell whether another run is at work.
    file: Option<File>,
}

impl FolderLock {
    /// Waits until no other process holds the folder.
    pub fn acquire(folder: &Path) -> Result<FolderLock> {
        let path = folder.join("set-up.lock");
        let file = File::create(&path).map_err(|error| on_writing(error, &path))?;
        match file.try_lock() {
            Ok(()) => return Ok(FolderLock { file: Some(file) }),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
                return Ok(FolderLock { file: None });
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        eprintln!(
            "another run is setting up {}: waiting for it",
            folder.display()
        );
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(FolderLock { file: Some(file) })
    }

    /// True when no other process can be at work in the folder.
    pub fn is_exclusive(&self) -> bool {
        self.file.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    #[test]
    fn second_one_waits_for_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let released = AtomicBool::new(false);
        let first = FolderLock::acquire(folder.path()).unwrap();
        assert!(first.is_exclusive());
        std::thread::scope(|scope| {
            let second = scope.spawn(|| {
                let _lock = FolderLock::acquire(folder.path()).unwrap();
                released.load(Ordering::SeqCst)
            });
            std::thread::sleep(Duration::from_millis(100));
            released.store(true, Ordering::SeqCst);
            drop(first);
            assert!(second.join().unwrap());
        });
    }
}
