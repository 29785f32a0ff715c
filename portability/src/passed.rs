//! What compilers found right in earlier runs, so that only what changed is asked again.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Hashes of questions together with what was asked. Failures are not kept: they are asked again.
#[derive(Debug, Default)]
pub struct Passed {
    file: Option<PathBuf>,
    before: BTreeSet<String>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    hashes: BTreeSet<String>,
    /// The file, so that a run that is ended loses nothing.
    log: Option<File>,
}

impl Passed {
    /// What an earlier run left in `file`, if one did.
    pub fn load(file: PathBuf) -> Passed {
        let text = fs::read_to_string(&file).unwrap_or_default();
        // Without a log the run does its work all the same; `save` says what is wrong.
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&file)
            .ok();
        Passed {
            before: text.lines().map(str::to_owned).collect(),
            file: Some(file),
            seen: Mutex::new(Seen {
                hashes: BTreeSet::new(),
                log,
            }),
        }
    }

    /// Whether an earlier run found that `compiler` takes `question`.
    pub fn knows(&self, compiler: &str, question: &[u8]) -> bool {
        let hash = hash(compiler, question);
        let known = self.before.contains(&hash);
        if known {
            self.seen().hashes.insert(hash);
        }
        known
    }

    /// `compiler` took `question`.
    pub fn note(&self, compiler: &str, question: &[u8]) {
        let hash = hash(compiler, question);
        let mut seen = self.seen();
        if let Some(log) = &mut seen.log {
            writeln!(log, "{hash}").ok();
        }
        seen.hashes.insert(hash);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the file for the next run. What was not met this time is dropped if `all` was asked.
    ///
    /// # Errors
    /// Where the file can't be written.
    pub fn save(self, all: bool) -> Result<()> {
        let Some(file) = self.file else {
            return Ok(());
        };
        let seen = self.seen.into_inner();
        let mut kept = seen.unwrap_or_else(PoisonError::into_inner).hashes;
        if !all {
            kept.extend(self.before);
        }
        let text: String = kept.iter().map(|hash| format!("{hash}\n")).collect();
        // A run that is ended here leaves the old file.
        let new = file.with_extension("new");
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &file))
            .with_context(|| format!("{} can't be written", file.display()))
    }
}

fn hash(compiler: &str, question: &[u8]) -> String {
    let mut hasher = Sha256::new();
    hasher.update((compiler.len() as u64).to_le_bytes());
    hasher.update(compiler);
    hasher.update(question);
    hexadecimal(hasher)
}

/// The first half of the digest.
pub fn hexadecimal(hasher: Sha256) -> String {
    let digest = hasher.finalize();
    let half = digest.iter().take(16);
    half.map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_compiler_took_is_not_asked_of_it_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("passed");
        let first = Passed::load(file.clone());
        assert!(!first.knows("a", b"text"));
        first.note("a", b"text");
        first.note("a", b"old");
        first.save(true).unwrap();

        let second = Passed::load(file.clone());
        assert!(second.knows("a", b"text"));
        assert!(!second.knows("a", b"text "));
        assert!(!second.knows("b", b"text"));
        assert!(!second.knows("at", b"ext"));
        second.save(true).unwrap();
        assert!(!Passed::load(file.clone()).knows("a", b"old"));
    }

    #[test]
    fn a_run_that_is_ended_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("passed");
        Passed::load(file.clone()).note("a", b"text");
        assert!(Passed::load(file).knows("a", b"text"));
    }

    #[test]
    fn a_run_on_a_share_of_the_kernels_forgets_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("passed");
        let first = Passed::load(file.clone());
        first.note("a", b"text");
        first.save(true).unwrap();
        Passed::load(file.clone()).save(false).unwrap();
        assert!(Passed::load(file).knows("a", b"text"));
    }
}
