//! Debian's Vulkan loader, and the libraries that an NVIDIA driver asks a system for. They are unpacked here, so that
//! the other machine needs neither dpkg nor root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::apt::{Apt, Distribution};

/// The loader; vendor-neutral EGL and GLX, and the X11 libraries that NVIDIA's drivers are linked with even where nothing
/// is shown. All need nothing else but the C library.
const PACKAGES: &[&str] = &[
    "libvulkan1",
    "libglvnd0",
    "libegl1",
    "libglx0",
    "libx11-6",
    "libxext6",
    "libxcb1",
    "libxau6",
    "libxdmcp6",
    "libbsd0",
    "libmd0",
];

/// Downloads the packages into `work` and unpacks them there. Returns shared libraries and copyright files, each with
/// its path in the pack; of a library with several names each is a file.
pub fn libraries(work: &Path) -> Result<Vec<(String, PathBuf)>> {
    if !Distribution::here().has_apt() {
        bail!(
            "--with-loader takes the Vulkan loader from Debian's or Ubuntu's packages, and this system has no apt-get. \
             Leave the option out, and copy libvulkan.so.1 to the other machine yourself"
        );
    }
    let (downloads, unpacked) = (work.join("debs"), work.join("unpacked"));
    for folder in [&downloads, &unpacked] {
        fs::create_dir_all(folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    eprintln!("downloading {}", PACKAGES.join(" "));
    if let Err(error) = download(&downloads) {
        let Some(apt) = Apt::find() else {
            return Err(error.context(
                "the Vulkan loader could not be downloaded. Do: sudo apt-get update, then run again",
            ));
        };
        apt.update();
        download(&downloads)?;
    }
    for deb in sorted(&downloads)? {
        let mut command = Command::new("dpkg-deb");
        command.arg("-x").arg(&deb).arg(&unpacked);
        run(&mut command, &format!("dpkg-deb -x {}", deb.display()))?;
    }
    let mut files = vec![];
    collect(&unpacked, &mut files)?;
    ensure!(
        files
            .iter()
            .any(|(name, _)| name == "loader/lib/libvulkan.so.1"),
        "the package libvulkan1 holds no libvulkan.so.1"
    );
    Ok(files)
}

fn download(folder: &Path) -> Result<()> {
    let mut command = Command::new("apt-get");
    // As root, apt would rather download as a user who may not write here, and warn.
    command
        .args(["-q", "-oAPT::Sandbox::User=root", "download"])
        .args(PACKAGES);
    run(command.current_dir(folder), "apt-get download")
}

fn run(command: &mut Command, name: &str) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("{name} did not start"))?;
    ensure!(status.success(), "{name} failed ({status})");
    Ok(())
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("{} cannot be listed", folder.display()))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// Walks `folder`; links are followed, since the archive has none.
fn collect(folder: &Path, files: &mut Vec<(String, PathBuf)>) -> Result<()> {
    for path in sorted(folder)? {
        let link = path.is_symlink();
        if path.is_dir() && !link {
            collect(&path, files)?;
        } else if path.is_file()
            && let Some(name) = name_in_pack(&path)
        {
            files.push((name, path));
        }
    }
    Ok(())
}

/// `loader/lib/libvulkan.so.1`, `loader/copyright/libvulkan1`; of other files nothing. Of `libx.so.1` and `libx.so.1.2.3`
/// only the first is ever asked for.
fn name_in_pack(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    if name == "copyright" {
        let package = path.parent()?.file_name()?.to_str()?;
        return Some(format!("loader/copyright/{package}"));
    }
    let (_, version) = name.split_once(".so.")?;
    (!version.contains('.')).then(|| format!("loader/lib/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_taken_under_the_name_that_programs_ask_for() {
        let name = |path: &str| name_in_pack(Path::new(path));
        let lib = "/x/usr/lib/x86_64-linux-gnu";
        assert_eq!(
            name(&format!("{lib}/libvulkan.so.1")).as_deref(),
            Some("loader/lib/libvulkan.so.1")
        );
        assert_eq!(name(&format!("{lib}/libvulkan.so.1.3.239")), None);
        assert_eq!(
            name("/x/usr/share/doc/libvulkan1/copyright").as_deref(),
            Some("loader/copyright/libvulkan1")
        );
        assert_eq!(name("/x/usr/share/doc/libvulkan1/changelog.gz"), None);
    }

    #[cfg(unix)]
    #[test]
    fn links_to_libraries_become_files() {
        let folder = tempfile::tempdir().unwrap();
        let lib = folder.path().join("usr/lib");
        fs::create_dir_all(&lib).unwrap();
        fs::write(lib.join("liba.so.1.2.3"), "a").unwrap();
        std::os::unix::fs::symlink("liba.so.1.2.3", lib.join("liba.so.1")).unwrap();
        std::os::unix::fs::symlink("nowhere", lib.join("libb.so.1")).unwrap();
        let mut files = vec![];
        collect(folder.path(), &mut files).unwrap();
        assert_eq!(
            files,
            [("loader/lib/liba.so.1".to_owned(), lib.join("liba.so.1"))]
        );
    }
}
