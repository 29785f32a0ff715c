//! The software Vulkan drivers that tests run on, found by their ICD files (the loader's JSON manifests).

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the Vulkan loader looks for ICD files of the system.
const ICD_FOLDERS: &[&str] = &[
    "/usr/share/vulkan/icd.d",
    "/usr/local/share/vulkan/icd.d",
    "/etc/vulkan/icd.d",
];

/// Where builds of Chromium keep SwiftShader. The loader doesn't look there.
const SWIFTSHADER: &[&str] = &[
    "/usr/lib/chromium/vk_swiftshader_icd.json",
    "/usr/lib64/chromium-browser/vk_swiftshader_icd.json",
    "/usr/lib/chromium-browser/vk_swiftshader_icd.json",
];

/// The ICD file of lavapipe, Mesa's Vulkan driver for CPUs, for this processor.
pub fn lavapipe() -> Option<PathBuf> {
    let folders: Vec<PathBuf> = ICD_FOLDERS.iter().map(PathBuf::from).collect();
    lavapipe_in(&folders, std::env::consts::ARCH)
}

/// The ICD file of SwiftShader, the Vulkan driver for CPUs in Chromium.
pub fn swiftshader() -> Option<PathBuf> {
    SWIFTSHADER
        .iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
}

/// `lvp_icd.x86_64.json` in older Mesa, `lvp_icd.json` in newer. Those of other processors may lie beside it.
fn lavapipe_in(folders: &[PathBuf], processor: &str) -> Option<PathBuf> {
    let named = format!("lvp_icd.{processor}.json");
    let exact = |name: &str| name == named || name == "lvp_icd.json";
    folders.iter().find_map(|folder| {
        let mut files: Vec<PathBuf> = fs::read_dir(folder)
            .ok()?
            .flatten()
            .map(|entry| entry.path())
            .collect();
        files.sort();
        files.into_iter().find(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(exact)
        })
    })
}

/// The environment that makes the loader load these ICD files and no others.
pub fn only(icds: &[&Path]) -> Vec<(&'static str, OsString)> {
    let list = std::env::join_paths(icds).unwrap_or_default();
    // The second name is for loaders before 1.3.207; newer ones prefer the first.
    vec![
        ("VK_DRIVER_FILES", list.clone()),
        ("VK_ICD_FILENAMES", list),
    ]
}

/// True when the user has chosen drivers himself.
pub fn chosen_by_user() -> bool {
    ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|set| !set.is_empty()))
}

/// Keeps drivers from complaining that XDG_RUNTIME_DIR is unset, as it is in containers and under sudo.
pub fn quiet(command: &mut Command) {
    let usable =
        std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|folder| Path::new(&folder).is_dir());
    if cfg!(target_os = "linux") && !usable {
        command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            fs::write(folder.path().join(name), "{}").unwrap();
        }
        folder
    }

    fn found(names: &[&str]) -> Option<String> {
        let folder = folder_with(names);
        let path = lavapipe_in(&["/nowhere".into(), folder.path().to_owned()], "x86_64")?;
        Some(path.file_name().unwrap().to_str().unwrap().to_owned())
    }

    #[test]
    fn lavapipe_of_this_processor_is_found() {
        let names = [
            "intel_icd.x86_64.json",
            "lvp_icd.i686.json",
            "lvp_icd.x86_64.json",
        ];
        assert_eq!(found(&names).as_deref(), Some("lvp_icd.x86_64.json"));
        assert_eq!(found(&["lvp_icd.json"]).as_deref(), Some("lvp_icd.json"));
    }

    #[test]
    fn other_drivers_are_not_lavapipe() {
        assert_eq!(
            found(&[
                "intel_icd.x86_64.json",
                "lvp_icd.aarch64.json",
                "lvp_icd.x86_64.json.old"
            ]),
            None
        );
        assert_eq!(found(&[]), None);
    }

    #[cfg(unix)]
    #[test]
    fn loader_gets_every_file_under_both_names() {
        let set = only(&[Path::new("/a.json"), Path::new("/b.json")]);
        assert_eq!(set.len(), 2);
        assert!(set.iter().all(|(_, list)| list == "/a.json:/b.json"));
    }
}
