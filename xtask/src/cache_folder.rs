//! Where downloaded files are kept: one folder a user, shared by every clone.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The cache folder, absolute; it may not exist yet.
pub fn find() -> Result<PathBuf> {
    let folder = choose(std::env::consts::OS, |name| std::env::var_os(name)).context(
        "no cache folder: neither SUNFLECK_CACHE nor a home folder is set in the environment. Set SUNFLECK_CACHE=FOLDER",
    )?;
    std::path::absolute(&folder)
        .with_context(|| format!("the cache folder {} has no absolute path", folder.display()))
}

/// The choice from the environment alone: SUNFLECK_CACHE as given, else the platform's folder for caches.
/// An XDG_CACHE_HOME that is not absolute is ignored, as its specification demands.
fn choose(os: &str, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(folder) = set("SUNFLECK_CACHE") {
        return Some(folder);
    }
    let base = match os {
        "windows" => set("LOCALAPPDATA")
            .or_else(|| set("USERPROFILE").map(|home| home.join("AppData").join("Local"))),
        _ => set("XDG_CACHE_HOME")
            .filter(|folder| folder.is_absolute())
            .or_else(|| {
                let inside: &Path = Path::new(if os == "macos" {
                    "Library/Caches"
                } else {
                    ".cache"
                });
                set("HOME").map(|home| home.join(inside))
            }),
    };
    base.map(|base| base.join("sunfleck"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(os: &str, variables: &[(&str, &str)]) -> Option<PathBuf> {
        choose(os, |name| {
            variables
                .iter()
                .find(|(set, _)| *set == name)
                .map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn own_variable_comes_first() {
        let set = [
            ("SUNFLECK_CACHE", "/scratch"),
            ("XDG_CACHE_HOME", "/xdg"),
            ("HOME", "/home/u"),
        ];
        assert_eq!(with("linux", &set), Some("/scratch".into()));
    }

    #[test]
    fn platform_folders_follow() {
        let home = [("HOME", "/home/u")];
        assert_eq!(with("linux", &home), Some("/home/u/.cache/sunfleck".into()));
        assert_eq!(
            with("macos", &home),
            Some("/home/u/Library/Caches/sunfleck".into())
        );
        assert_eq!(
            with("windows", &[("LOCALAPPDATA", "/users/u/local")]),
            Some(PathBuf::from("/users/u/local").join("sunfleck"))
        );
    }

    #[cfg(unix)]
    #[test]
    fn xdg_counts_only_when_absolute() {
        assert_eq!(
            with("linux", &[("XDG_CACHE_HOME", "/xdg"), ("HOME", "/h")]),
            Some("/xdg/sunfleck".into())
        );
        assert_eq!(
            with("linux", &[("XDG_CACHE_HOME", "xdg"), ("HOME", "/h")]),
            Some("/h/.cache/sunfleck".into())
        );
    }

    #[test]
    fn empty_variables_count_as_unset() {
        assert_eq!(with("linux", &[("SUNFLECK_CACHE", ""), ("HOME", "")]), None);
    }
}
